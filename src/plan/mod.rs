//! Planning: pure functions from a scenario to plans and predictions. Knows no tch, sockets, files, clocks or printing.

#[cfg(test)]
mod brute_force;
mod outcomes;
mod pareto;
#[expect(clippy::module_inception, reason = "the file is named after the type that it holds")]
mod plan;
mod policy;
mod predict;
mod route;
mod scenario;
mod search;
mod select;
mod space;

pub use outcomes::{Outcomes, SampleSet};
pub use plan::{ExitPlan, LinkPlan, NodePlan, Plan, Threshold};
pub use policy::Policy;
pub use predict::{Prediction, Stage, predict};
pub use route::{Crossing, NodeRoute, Route, Step};
pub use scenario::{
    Constraints, EncodedFrontier, ExitSite, Link, LossyOutcomes, ModelId, Node, SCHEMA, Scenario, TrunkLayer,
};
pub use search::{Found, FrontPlan, Objective, Predicted, search};
