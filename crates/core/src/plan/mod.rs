//! Planning: pure functions from a scenario to plans and predictions. Knows no tch, sockets, files, clocks or printing.

mod answers;

#[cfg(test)]
mod brute_force;
mod complete;
mod curve;
mod dominance;
mod guarantee;
mod keys;
mod layers;
mod leaders;
mod link;
mod marginal;
mod memory;
mod moves;
mod outcomes;
mod pareto;
#[expect(clippy::module_inception, reason = "the file is named after the type that it holds")]
mod plan;
mod policy;
mod predict;
mod problem;
#[cfg(test)]
mod random;
mod region;
mod route;
mod scenario;
mod script;
mod search;
mod select;
mod sensitivity;
mod simulate;
mod sink;
mod space;
mod tally;
mod tiers;
mod to_go;
mod trial_plans;
mod two_nodes;
mod uncertainty;

pub use guarantee::{Certified, Guarantee, certify};
pub use layers::TrunkLayer;
pub use leaders::{Decided, UnderLoad, decide, decide_among, under_load};
pub use link::{Link, LoneMessage};
pub use outcomes::{Outcomes, SampleSet};
pub use plan::{ExitPlan, LinkPlan, NodePlan, Plan, Threshold};
pub use policy::Policy;
pub use predict::{Interval95, NodeBasis, Prediction, Stage, predict, workload};
pub use problem::Problem;
pub use route::{Crossing, NodeRoute, Route, Step};
pub use scenario::{
    AccuracyBasis, Constraints, EncodedFrontier, ExitSite, LossyOutcomes, Marginal, MarginalStep, ModelId,
    Node, Objective, Range, SCHEMA, ScenarioFile, in_flight, threshold_steps,
};
pub use script::{Stretch, stretches};
pub use search::{Found, FrontPlan, ParetoFront, Predicted, pareto_front, search, search_until};
pub use sensitivity::{Stability, Within, stays_best};
pub use simulate::{
    Arrival, Class, Latencies, Simulated, Spacing, StageLoad, Workload, highest_rate_with_p99_below,
    simulate, sustained_rate,
};
pub use trial_plans::{all_on_device, all_on_edge, most_balanced};
pub use uncertainty::with_intervals;
