//! What is known of a model's answers when a plan is sought.

use std::collections::BTreeSet;
use std::path::Path;

use super::Context;
use super::agreement;
use super::local_node::LocalNode;
use super::model::Model;
use coprof_core::codec::{Element, Encoding};
use coprof_core::error::{Remedy, Result};
use coprof_run::data::{EncodingRecord, ExitRecord};

/// What is known of a model's answers.
pub enum Evidence {
    /// On samples with labels: accuracy. Without an encoding record only what changes no answer crosses.
    Records {
        /// What the exits answer uncut.
        exits: ExitRecord,
        /// What they answer behind encodings.
        encodings: Option<EncodingRecord>,
    },
    /// On inputs without labels: agreement with the uncut model.
    Agreement(EncodingRecord),
    /// Nothing. Only what changes no answer crosses, and side exits stay off.
    Nothing,
}

impl Evidence {
    /// Agreement on the inputs in `data` where it is given; else the model's records, as far as there are some.
    pub fn gather(model: &Model, device: &LocalNode, data: Option<&Path>, context: &Context) -> Result<Self> {
        if let Some(place) = data {
            return agreement::record(place, model, device, context).map(Self::Agreement);
        }
        let name = &model.graph.name;
        match (model.has_record("exits"), model.has_record("encodings")) {
            (true, true) => {
                let (exits, encodings) = (model.exit_record()?, Some(model.encoding_record()?));
                Ok(Self::Records { exits, encodings })
            }
            (true, false) => {
                let plain = format!("no encoding record of {name}: every frontier crosses as f32");
                context.advise(plain, Remedy::AddEncodingRecord);
                Ok(Self::Records { exits: model.exit_record()?, encodings: None })
            }
            (false, _) => {
                let unknown = format!("nothing is known of {name}'s answers");
                context.advise(
                    format!("{unknown}: every frontier crosses as f32, and side exits stay off"),
                    Remedy::GatherEvidence,
                );
                Ok(Self::Nothing)
            }
        }
    }

    /// The record that tells sizes and answers behind encodings.
    pub fn encodings(&self) -> Option<&EncodingRecord> {
        match self {
            Self::Records { encodings, .. } => encodings.as_ref(),
            Self::Agreement(record) => Some(record),
            Self::Nothing => None,
        }
    }

    /// The encodings to weigh.
    pub fn weighed(&self) -> Vec<Encoding> {
        match self.encodings() {
            Some(record) => {
                let all: BTreeSet<Encoding> = record.rows.iter().map(|row| row.encoding).collect();
                all.into_iter().collect()
            }
            None => vec![Encoding::plain(Element::F32)],
        }
    }
}
