#!/usr/bin/env python3
"""Draws a terminal's text (UTF-8, from stdin) as an SVG picture on stdout.

    coprof demo | sed -n '/── replay/,$p' | python3 scripts/svg.py 'coprof demo' > docs/demo.svg
"""

import re
import sys
from html import escape

FONT, CELL, LINE, MARGIN, BAR = 14, 8.4, 19, 18, 34
STYLE = f"font-family='ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace' font-size='{FONT}'"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# Text between wide gaps is placed by itself, so that columns stay columns in any font.
RUN = re.compile(r"\S+(?: \S+)*")


def svg(text, title):
    lines = [ESCAPES.sub("", line).rstrip().expandtabs() for line in text.strip("\n").splitlines()]
    columns = max([len(line) for line in lines] + [len(title)])
    width, height = columns * CELL + 2 * MARGIN, BAR + len(lines) * LINE + MARGIN
    yield f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0f} {height:.0f}' width='{width:.0f}' {STYLE}>"
    yield f"<title>{escape(title)}</title>"
    yield "<rect width='100%' height='100%' rx='8' fill='#16181d'/>"
    yield f"<text x='{MARGIN}' y='{BAR - 12}' fill='#8b93a1'>$ {escape(title)}</text>"
    yield "<g fill='#dfe3ea' xml:space='preserve'>"
    for row, line in enumerate(lines):
        y = BAR + (row + 0.8) * LINE
        for run in RUN.finditer(line):
            x, length = MARGIN + run.start() * CELL, len(run[0]) * CELL
            yield f"<text x='{x:.1f}' y='{y:.1f}' textLength='{length:.1f}'>{escape(run[0])}</text>"
    yield "</g>"
    yield "</svg>"


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} TITLE < TEXT > FILE.svg")
    text = sys.stdin.buffer.read().decode()
    if not text.strip():
        sys.exit("error: text was expected on stdin, found none")
    sys.stdout.buffer.write(("\n".join(svg(text, sys.argv[1])) + "\n").encode())


if __name__ == "__main__":
    main()
