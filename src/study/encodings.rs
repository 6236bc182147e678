//! What every encoding does to size, time and answers at every cut.

use std::collections::{BTreeMap, HashMap};

use super::Context;
use super::crossings::crossings;
use super::local_node::LocalNode;
use super::model::Model;
use super::profile::profile_device;
use crate::report::{Emulation, EncodingTableRow, EncodingsDocument};
use crate::runtime;
use coprof_core::codec::Encoding;
use coprof_core::error::{Error, Remedy, Result};
use coprof_core::model::Graph;
use coprof_core::units::Share;
use coprof_run::data::{EncodingRecord, EncodingRow, ExitEffect, cut_name};
use coprof_run::pipeline::{CodecTimes, ProfileRequest};

/// What every encoding takes at every cut on this host; `None` where coprof runs no layers, whose tensors it takes.
fn codec_times(model: &Model, device: &LocalNode, context: &Context) -> Result<Option<Vec<CodecTimes>>> {
    if runtime::check().is_err() {
        context
            .say("built without libtorch: encodings are shown without the times that they take on this host");
        return Ok(None);
    }
    let bar = context.progress("codecs on this host");
    let request = ProfileRequest { encodings: Encoding::ladder(), ..ProfileRequest::default() };
    let profile = profile_device(model, device, &request, &|share| bar.set(share), context)?;
    Ok(Some(profile.codecs))
}

/// Times every encoding at every cut on this host and puts sizes and answers of the record beside it.
pub fn measure(
    model: &Model,
    device: &LocalNode,
    record: &EncodingRecord,
    context: &Context,
) -> Result<EncodingsDocument> {
    let profiled = codec_times(model, device, context)?;
    let times: HashMap<_, &CodecTimes> =
        profiled.iter().flatten().map(|times| ((cut_name(&times.cut), times.encoding), times)).collect();
    let name = &model.graph.exits[model.graph.final_exit().0].name;
    let of_final = |accuracy: &BTreeMap<String, Share>| {
        accuracy.get(name).copied().ok_or_else(|| {
            Error::failed(format!("the record of {} lacks exit '{name}'", model.graph.name))
                .with(Remedy::RemakeRecord)
        })
    };
    let row = |row: &EncodingRow| {
        let times = times.get(&(row.cut.clone(), row.encoding));
        if times.is_none() && profiled.is_some() {
            return Err(Error::failed(format!(
                "the record of {} holds {} at cut {}, which is not measured any more",
                model.graph.name, row.encoding, row.cut
            ))
            .with(Remedy::RemakeRecord));
        }
        let accuracy = accuracy(&model.graph, record, row);
        let final_accuracy = of_final(&accuracy)?;
        Ok(EncodingTableRow {
            cut: row.cut.clone(),
            encoding: row.encoding,
            bytes_mean: row.bytes_mean,
            bytes_p99: row.bytes_p99,
            encode_us: times.map(|times| times.encode_us),
            decode_us: times.map(|times| times.decode_us),
            accuracy,
            final_accuracy,
        })
    };
    let uncut = record.uncut.iter().map(|effect| (effect.exit.clone(), share_right(effect)));
    let uncut_accuracy: BTreeMap<String, Share> = uncut.collect();
    Ok(EncodingsDocument {
        envelope: device.envelope("encodings", Some(&model.graph), &Emulation::NONE),
        data_sha256: record.data.clone(),
        samples: record.samples,
        calibrated_on: record.calibrated_on,
        uncut_final_accuracy: of_final(&uncut_accuracy)?,
        uncut_accuracy,
        encodings: record.rows.iter().map(row).collect::<Result<_>>()?,
    })
}

/// The codec times of a saved document as a profile has them; `None` unless it has all that are weighed.
pub fn times_of(
    graph: &Graph,
    weighed: &[Encoding],
    document: &EncodingsDocument,
) -> Option<Vec<CodecTimes>> {
    let rows: HashMap<(&str, Encoding), &EncodingTableRow> =
        document.encodings.iter().map(|row| ((row.cut.as_str(), row.encoding), row)).collect();
    let mut times = Vec::with_capacity(rows.len());
    for (cut, encodings) in crossings(graph, weighed).cuts {
        let tips = cut.tip_names(graph);
        let name = cut_name(&tips);
        for encoding in encodings {
            let row = rows.get(&(name.as_str(), encoding))?;
            let (encode_us, decode_us) = (row.encode_us?, row.decode_us?);
            times.push(CodecTimes { cut: tips.clone(), encoding, encode_us, decode_us });
        }
    }
    Some(times)
}

/// Lossless encodings answer as the uncut model, coded ones as their element type without a coder. An exit whose head hangs on
/// what crosses can be tried behind a lossless encoding, too, but only the recorded rows tell which these are.
fn accuracy(graph: &Graph, record: &EncodingRecord, row: &EncodingRow) -> BTreeMap<String, Share> {
    let lossy = record.rows.iter().find(|other| other.cut == row.cut && !other.exits.is_empty());
    let behind = |name: &str| lossy.is_none_or(|lossy| lossy.exits.iter().any(|effect| effect.exit == name));
    let names = graph.exits.iter().map(|exit| exit.name.as_str()).filter(|name| behind(name));
    let answers = record.answers(row).filter(|_| !row.encoding.is_lossless());
    let effect = |name: &str| match answers {
        Some(answers) => answers.exits.iter().find(|effect| effect.exit == name),
        None => record.uncut(name),
    };
    names.filter_map(|name| Some((name.to_owned(), share_right(effect(name)?)))).collect()
}

fn share_right(effect: &ExitEffect) -> Share {
    Share::of(effect.right.iter().filter(|&&right| right).count(), effect.right.len())
}
