//! What an experiment found, as plain data: `results.json` and the report are made of this alone.

use super::stats::{Estimate, Judgement, Summary};
use serde::{Deserialize, Serialize};

/// Everything that `infer ab` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// This program's version.
    pub version: String,
    /// When the run began, `2026-01-31T12:00:00Z`.
    pub date: String,
    /// The model.
    pub model: ModelInfo,
    /// Where it ran.
    pub device: DeviceInfo,
    /// What was fixed before the run.
    pub plan: PlanInfo,
    /// The arms; the first is the reference.
    pub arms: Vec<ArmInfo>,
    /// Right answers, by arm, mode, task and steps.
    pub cells: Vec<Cell>,
    /// Each arm but the first against the first.
    pub comparisons: Vec<Comparison>,
    /// What a reader has to know to judge the figures, a sentence each.
    pub limits: Vec<String>,
    /// Seconds of work, interruptions left out.
    pub seconds: f64,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// As the user named it.
    pub name: String,
    /// Architecture, as `config.json` names it.
    pub architecture: String,
    /// Parameters of the checkpoint.
    pub parameters: u64,
    /// Layers.
    pub layers: usize,
    /// Hash of the weights' files.
    pub weights_hash: String,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Its name.
    pub name: String,
    /// Vulkan, Metal, …
    pub backend: String,
    /// The driver and its version.
    pub driver: String,
}

/// What was fixed before the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanInfo {
    /// Hash of all that follows, of the questions and of the arms.
    pub hash: String,
    /// Margin of non-inferiority, as a share: 0.03 is 3 points.
    pub margin: f64,
    /// Where random numbers start.
    pub seed: u64,
    /// Tasks in order.
    pub tasks: Vec<String>,
    /// Questions.
    pub questions: usize,
    /// How questions were put: `native` (a model trained on them) or `few-shot`.
    pub prompts: String,
    /// Sequences that ran at once.
    pub sequences: usize,
}

/// An arm: the model with its weights treated in one way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmInfo {
    /// As the user wrote it: `q4:32`.
    pub name: String,
    /// In words: "16 states in groups of 32 weights".
    pub description: String,
    /// Why it is there: `reference`, `asked`, or `control`.
    pub role: String,
    /// States a group has, none where weights are floats.
    pub states: Option<usize>,
    /// Different values that a matrix holds, on average.
    pub distinct: f64,
    /// True bits a weight, scales and zeros included.
    pub bits: f64,
    /// Σ(w − ŵ)² / Σw² over all matrices.
    pub relative_error: f64,
    /// Whether the embedding and the output matrix were treated too.
    pub embedding: bool,
}

/// Answers of one arm to questions of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The arm.
    pub arm: String,
    /// `thought` or `direct`.
    pub mode: String,
    /// The task.
    pub task: String,
    /// Reasoning steps; 0 where not known.
    pub steps: usize,
    /// Questions.
    pub n: usize,
    /// Right answers.
    pub right: usize,
    /// Share of right answers with its interval (Wilson).
    pub accuracy: Estimate,
    /// Share of right guesses.
    pub chance: f64,
}

/// An arm against the reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The arm.
    pub arm: String,
    /// Over all questions, with thought.
    pub overall: Judgement,
    /// By task, with thought.
    pub tasks: Vec<Judgement>,
    /// By task and overall, without thought; empty where that was not run.
    pub direct: Vec<Judgement>,
    /// The verdict in a sentence to quote.
    pub sentence: String,
    /// Next-token distributions on the same texts.
    pub teacher_forced: TeacherForced,
    /// Texts that each arm wrote by itself.
    pub free_running: FreeRunning,
    /// Who thinks and who answers; none where questions ask for no thought.
    pub crossover: Option<Crossover>,
    /// Estimates of information, in bits.
    pub information: Option<Information>,
    /// How far attention moved, by layer and head.
    pub attention: Vec<AttentionDrift>,
    /// Flipped answers, the worst first.
    pub flips: Vec<Flip>,
}

/// Next-token distributions of both arms on the same texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TeacherForced {
    /// Which texts: "worked solutions", or a file.
    pub texts: String,
    /// KL divergence of the arm from the reference, in nats.
    pub kl: Summary,
    /// Change of the probability of the text's own token.
    pub delta_p: Summary,
    /// Share of positions where both hold the same token likeliest.
    pub same_top: f64,
    /// Mean −ln p of the text's own token, reference.
    pub nll_reference: f64,
    /// The same, arm.
    pub nll_arm: f64,
    /// exp(nll_arm − nll_reference), interval by bootstrap over texts.
    pub perplexity_ratio: Option<Estimate>,
    /// The same figures for some of the positions.
    pub slices: Vec<Slice>,
    /// Counts of KL: edges are powers of ten, one more edge than counts; the first counts all below it.
    pub kl_histogram: Histogram,
}

/// Some of the positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Which: "reference sure (entropy < 0.1 bit)", "digits", …
    pub what: String,
    /// Positions.
    pub n: usize,
    /// Mean KL in nats.
    pub kl: f64,
    /// Share of positions with the same likeliest token.
    pub same_top: f64,
}

/// Counts of numbers between edges.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Edges, ascending.
    pub edges: Vec<f64>,
    /// Counts, one fewer than edges.
    pub counts: Vec<usize>,
}

/// Texts that each arm wrote by itself, greedily.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FreeRunning {
    /// Share of texts that still are the reference's after so many tokens: `(tokens, share)`.
    pub survival: Vec<(usize, f64)>,
    /// Texts that diverged.
    pub diverged: usize,
    /// Of so many.
    pub texts: usize,
    /// Margin of the reference's likeliest token over its second, as a difference of probabilities, where
    /// texts diverged.
    pub margin_at_divergence: Summary,
    /// The same at all positions.
    pub margin_elsewhere: Summary,
    /// Tokens of a thought, reference.
    pub length_reference: Summary,
    /// Tokens of a thought, arm.
    pub length_arm: Summary,
    /// Texts that did not end, reference.
    pub cut_off_reference: usize,
    /// Texts that did not end, arm.
    pub cut_off_arm: usize,
    /// Wrong answers of the arm whose thought held the right one.
    pub reached_and_lost: usize,
    /// The same, reference.
    pub reached_and_lost_reference: usize,
    /// Error a step ε by accuracy ≈ (1 − ε)^k, reference.
    pub step_error_reference: Option<Estimate>,
    /// The same, arm.
    pub step_error_arm: Option<Estimate>,
    /// Steps of thoughts that follow the worked solution, as far as the first that does not.
    pub steps_right_reference: f64,
    /// The same, arm.
    pub steps_right_arm: f64,
    /// Gain of thinking: accuracy with thought − without, reference.
    pub gain_reference: Option<Estimate>,
    /// The same, arm.
    pub gain_arm: Option<Estimate>,
    /// gain_arm − gain_reference: below 0, thinking helps the arm less.
    pub interaction: Option<Estimate>,
}

/// Accuracy by who thinks and who answers from the thought.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Crossover {
    /// Questions.
    pub n: usize,
    /// `[reference thinks, arm thinks][reference answers, arm answers]`
    pub accuracy: [[Estimate; 2]; 2],
}

/// Model-based estimates of information, in bits; thought Z, question X, answer Y.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Information {
    /// Questions.
    pub n: usize,
    /// I(Z;Y|X): `[reference's thoughts, arm's thoughts][scored by reference, by arm]`
    pub answer_given_thought: [[Estimate; 2]; 2],
    /// I(X;Z), likewise.
    pub question_in_thought: [[Estimate; 2]; 2],
}

/// How far the attention of a head moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionDrift {
    /// Layer, from 0.
    pub layer: usize,
    /// Head, from 0.
    pub head: usize,
    /// Mean total variation distance, 0 to 1, of the arm's attention from the reference's.
    pub distance: f64,
    /// Mean entropy of the reference's attention, in bits.
    pub entropy_reference: f64,
    /// The same, arm.
    pub entropy_arm: f64,
}

/// A question whose answer flipped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flip {
    /// The question's id.
    pub id: String,
    /// Its task.
    pub task: String,
    /// Its steps.
    pub steps: usize,
    /// The question.
    pub prompt: String,
    /// The right answer.
    pub target: String,
    /// What the reference wrote.
    pub reference: String,
    /// What the arm wrote.
    pub arm: String,
    /// Bytes that both texts begin with.
    pub common: usize,
    /// Whether the reference was right and the arm was not; else the other way round.
    pub lost: bool,
}

/// Everything that `infer sweep` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// This program's version.
    pub version: String,
    /// When the run began.
    pub date: String,
    /// Where it ran.
    pub device: DeviceInfo,
    /// The models, smallest first.
    pub models: Vec<ModelInfo>,
    /// Hash of questions and settings.
    pub plan_hash: String,
    /// Questions.
    pub questions: usize,
    /// Every point that was measured.
    pub points: Vec<SweepPoint>,
    /// Where damage begins, by model and granularity.
    pub knees: Vec<Knee>,
    /// The law of damage over sizes.
    pub law: Option<Law>,
    /// One layer (or matrix) at 4 bits at a time, and all but one.
    pub sensitivity: Vec<Sensitivity>,
    /// What a reader has to know.
    pub limits: Vec<String>,
}

/// One model with so many states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// The model's name.
    pub model: String,
    /// Parameters.
    pub parameters: u64,
    /// `tensor`, `channel`, `128`, `64`, `32`.
    pub granularity: String,
    /// States; 0 is the reference, whose weights are floats.
    pub states: usize,
    /// True bits a weight.
    pub bits: f64,
    /// Σ(w − ŵ)² / Σw².
    pub relative_error: f64,
    /// Mean KL in nats on worked solutions.
    pub kl: f64,
    /// Mean −ln p.
    pub nll: f64,
    /// Share of whole worked replies that would have been written token by token.
    pub accuracy: Estimate,
}

/// Where damage begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knee {
    /// The model's name.
    pub model: String,
    /// The granularity.
    pub granularity: String,
    /// The knee in states (2 to the bend of a piecewise linear fit in log2 states); none where there is none.
    pub states: Option<Estimate>,
    /// Share of resamples whose knee lies below 16 states.
    pub below_16: f64,
}

/// damage = C · N^−a · e^(−bits / γ)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Law {
    /// What is called damage: "KL in nats".
    pub damage: String,
    /// ln C.
    pub ln_c: f64,
    /// a.
    pub a: Estimate,
    /// γ in bits.
    pub gamma: Estimate,
    /// Share of the variance of ln damage that the fit explains.
    pub r_squared: f64,
    /// For each size, held out: `(parameters, measured, predicted)`, means of ln damage.
    pub held_out: Vec<(u64, f64, f64)>,
}

/// Damage by one part of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sensitivity {
    /// The model's name.
    pub model: String,
    /// Which part: `layer 3`, `q_proj`, …
    pub part: String,
    /// Mean KL in nats if only this part is rounded.
    pub only: f64,
    /// Mean KL in nats if all but this part are rounded.
    pub all_but: f64,
}
