//! Runs the program in a folder of its own, with deadlines, so that a hang is a failure.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// Far above what any command here takes, also on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Sends a signal as the shell's `kill` does.
pub fn signal(name: &str, process: u32) {
    assert!(Command::new("kill").args(["-s", name, &process.to_string()]).status().unwrap().success());
}

/// A folder to run commands in.
pub struct Workplace(TempDir);

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Workplace {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file and returns its path as a flag wants it.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.file(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().into()
    }

    /// The program, not started. The cache of host facts is kept between test runs: measuring takes seconds.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coprof"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        command
            .env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"))
            .env_remove("COPROF_DATA")
            .env_remove("COPROF_KEY_FILE");
        command
    }

    pub fn start(&self, args: &[&str]) -> Running {
        Running::new(self.command(args).stderr(Stdio::piped()).spawn().unwrap())
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        self.start(args).end()
    }

    /// Runs a command that must succeed.
    pub fn succeed(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
        ran
    }

    /// Runs a command with `--json`: its document, which must be all of stdout, and what it told people.
    pub fn document(&self, args: &[&str]) -> (Value, String) {
        let ran = self.run(&[args, &["--json"]].concat());
        let document: Value = serde_json::from_str(&ran.stdout)
            .unwrap_or_else(|error| panic!("{args:?}: one JSON document on stdout, not {error}: {ran:?}"));
        // Layers need not settle on a busy machine, but document and exit code must agree.
        let code = if document["settled"] == false { 4 } else { 0 };
        assert_eq!(ran.code, Some(code), "{args:?}: {}", ran.stderr);
        (document, ran.stderr)
    }

    /// What was saved of this kind is picked up, as `messages` tell, unless a probe found it changed: on a busy machine it may have.
    /// Then, and where it had not settled, it was measured again.
    pub fn assert_picked_up(&self, kind: &str, messages: &str) {
        let reports = self.reports(kind);
        let settled =
            serde_json::from_slice::<Value>(&fs::read(&reports[0]).unwrap()).unwrap()["settled"] != false;
        let says = |words: &str| messages.contains(&format!("{kind}: {words} reports/{kind}-"));
        let picked_up = says("from");
        let outdated = says("measured anew, since a probe is more than 10 % off");
        assert_eq!((picked_up || outdated, picked_up && outdated), (settled, false), "{messages}");
        assert_eq!(reports.len(), if picked_up { 1 } else { 2 }, "{messages}");
        assert!(!settled || messages.contains(" old)"), "its age is told: {messages}");
    }

    /// Runs a command that must fail in the way that users are promised.
    pub fn fail(&self, args: &[&str], code: i32, says: &[&str]) {
        self.start(args).fail(code, says);
        self.assert_nothing_half_written();
    }

    pub fn assert_nothing_half_written(&self) {
        let part = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "part");
        for folder in [self.0.path().to_path_buf(), self.file("reports")] {
            assert_eq!(entries(&folder).into_iter().find(part), None);
        }
    }

    /// The saved results of a kind, oldest first.
    pub fn reports(&self, kind: &str) -> Vec<PathBuf> {
        let prefix = format!("{kind}-");
        let of_kind = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&prefix);
        let mut reports = entries(&self.file("reports"));
        reports.retain(of_kind);
        reports.sort_unstable();
        reports
    }

    /// The only saved result of a kind.
    pub fn report(&self, kind: &str) -> (String, Value) {
        let reports = self.reports(kind);
        let [path] = reports.as_slice() else { panic!("one {kind} was expected, found {reports:?}") };
        (path.to_str().unwrap().into(), serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// A started command.
pub struct Running {
    child: Child,
    stdout: Receiver<String>,
    /// Line by line.
    stderr: Receiver<String>,
    /// What it has said so far.
    said: String,
}

impl Running {
    fn new(mut child: Child) -> Self {
        let stdout = read_all(child.stdout.take().unwrap());
        let stderr = read_lines(child.stderr.take().unwrap());
        Self { child, stdout, stderr, said: String::new() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has said so on stderr.
    pub fn says(&mut self, words: &str) {
        while !self.said.contains(words) {
            match self.stderr.recv_timeout(DEADLINE) {
                Ok(line) => self.said.push_str(&line),
                Err(_) => panic!("'{words}' is not in: {}", self.said),
            }
        }
    }

    /// Waits for its end, and kills it when that does not come.
    pub fn end(mut self) -> Ran {
        let stdout = self.stdout.recv_timeout(DEADLINE).unwrap_or_else(|_| self.hangs());
        loop {
            match self.stderr.recv_timeout(DEADLINE) {
                Ok(line) => self.said.push_str(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.hangs(),
            }
        }
        Ran { code: self.child.wait().unwrap().code(), stdout, stderr: self.said }
    }

    fn hangs(&mut self) -> ! {
        self.child.kill().unwrap();
        panic!("hangs: nothing ended it within {DEADLINE:?}; it said: {}", self.said);
    }

    /// Waits for a failure: the exit code, nothing on stdout, and a few lines that say what is to be said.
    pub fn fail(self, code: i32, says: &[&str]) {
        let ran = self.end();
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert_eq!(ran.stdout, "", "{ran:?}");
        assert!(ran.stderr.contains("error: ") && !ran.stderr.contains("panicked"), "{ran:?}");
        assert!(ran.stderr.trim_end().lines().count() <= 8, "{}", ran.stderr);
        for words in says {
            assert!(ran.stderr.contains(words), "'{words}' is not in: {}", ran.stderr);
        }
    }
}

fn read_all(mut stream: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        let _ = tell.send(text);
    });
    told
}

fn read_lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            let _ = tell.send(std::mem::take(&mut line));
        }
    });
    told
}

/// A running `coprof serve` on a free port.
pub struct Serving {
    child: Child,
    pub address: String,
    log: PathBuf,
}

impl Serving {
    pub fn start(workplace: &Workplace) -> Self {
        Self::start_with(workplace, &[])
    }

    pub fn start_with(workplace: &Workplace, flags: &[&str]) -> Self {
        let log = workplace.file("serve.log");
        let base = ["serve", "--verbose", "--listen", "127.0.0.1:0"];
        let mut command = workplace.command(&[&base, flags].concat());
        let mut child = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = stdout.read_line(&mut line);
            let _ = tell.send(line);
        });
        let line = told.recv_timeout(DEADLINE).expect("serve says where it listens");
        let address = line.trim().strip_prefix("listening on ").expect("where it listens").into();
        Self { child, address, log }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as Ctrl-C does.
    pub fn interrupt(self) {
        signal("INT", self.id());
        let log = self.end();
        assert!(!log.contains("panicked"), "{log}");
    }

    /// Waits until it has told so in its log.
    pub fn tells(&self, words: &str) {
        let pause = Duration::from_millis(10);
        let told = || fs::read_to_string(&self.log).unwrap().contains(words);
        let is_told = (0..DEADLINE.as_millis() / pause.as_millis()).any(|_| {
            std::thread::sleep(pause);
            told()
        });
        assert!(is_told, "nobody told '{words}'");
    }

    /// What it has told by its end, which a signal has brought about.
    pub fn end(mut self) -> String {
        assert_eq!(self.child.wait().unwrap().code(), Some(130));
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Gone already where the test ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
