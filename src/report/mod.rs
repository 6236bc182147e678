//! Results for people and programs: JSON documents, the folder that keeps them, tables. Measures nothing.

mod demo;
mod document;
mod drawing;
mod encodings;
mod exits;
mod layers;
mod link;
mod models;
mod optimize;
mod plans;
mod replay;
mod store;
mod table;

pub use demo::DemoDocument;
pub use document::{Emulation, Envelope, HostReport, ModelFacts, PeakFacts, timestamp};
pub use encodings::{EncodingTableRow, EncodingsDocument, cut_view, encodings_csv, encodings_view};
pub use exits::{ExitAccuracy, ExitsDocument, SweepRow, exits_csv, exits_view};
pub use layers::{ExitRow, LayerFacts, LayerRow, LayersDocument, Timing, layers_csv, layers_view};
pub use link::{LinkDocument, link_csv, link_view};
pub use models::{
    GraphCut, MOST_CUTS, ModelDocument, ModelExit, ModelRow, ModelsDocument, model_exit, model_view,
    models_view,
};
pub use optimize::{
    Arrivals, LoadedPlan, OptimizeDocument, PlanDocument, PolicyChoice, SearchFacts, optimize_csv,
    optimize_view,
};
pub use plans::{Latency, Measured, PlanRow, crossing, plan_table};
pub use replay::{
    Agreement, Drift, Drifted, Drifted95, ErrorShares, Inside95, NodeDrift, ReplayDocument, replay_csv,
    replay_view,
};
pub use store::Store;
pub use table::{bar, new_table};
