//! The run: every arm writes and scores the same texts, in the same batches, through the same kernels.
//!
//! Work comes in units that are journaled as they are done. A unit's content depends on the plan and on earlier
//! units alone, so an interrupted run ends in the same results as one that was not.

use super::arms::{Arm, Role};
use super::journal::Journal;
use super::prompts::{Mode, Prompter, after_thought, answer, thought, worked};
use super::results::AttentionDrift;
use super::tasks::Question;
use crate::engine::{Engine, Request, Sampling, Text};
use crate::error::{Error, Result};
use crate::text::TokenStream;
use pollster::block_on;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// Questions of a unit.
const CHUNK: usize = 64;

/// Most questions whose worked solutions are predicted.
const PREDICTED: usize = 96;

/// Most questions of the crossover, of the estimates of information, and of the look at attention.
const CROSSED: usize = 48;
const INFORMED: usize = 32;
const ATTENDED: usize = 6;

/// Other questions against which a thought is held in the estimate of I(X;Z).
const OTHERS: usize = 3;

/// Most tokens of an answer that follows a given thought.
pub const ANSWER_TOKENS: usize = 16;

/// What is fixed before the run.
pub struct Plan {
    /// The arms, in the order in which the engine has them.
    pub arms: Vec<Arm>,
    /// The questions.
    pub questions: Vec<Question>,
    /// With and without thought.
    pub modes: Vec<Mode>,
    /// A text to compare predictions on, in place of worked solutions: its name and its tokens.
    pub text: Option<(String, Vec<u32>)>,
    /// Tokens of a window of that text.
    pub window: usize,
    /// Most tokens of a reply.
    pub max_tokens: usize,
    /// Tokens that end a text.
    pub end: Vec<u32>,
    /// The token that ends a worked solution, where the model was taught one.
    pub closing: Option<u32>,
}

/// A reply to a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// What the model wrote.
    pub text: String,
    /// The same as tokens.
    pub tokens: Vec<u32>,
    /// Whether it did not come to an end.
    pub cut: bool,
}

/// Predictions of the tokens of a text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// Of each token by the reference: ln p, entropy in nats, margin of the likeliest token.
    pub reference: Vec<[f32; 3]>,
    /// By arm, of each token: KL in nats, ln q, 1 where both hold the same token likeliest.
    pub arms: Vec<Vec<[f32; 3]>>,
}

/// Answers of the crossover, for one question: `[who thinks][who answers]`, 0 the reference, 1 the arm.
pub type Crossed = [[String; 2]; 2];

/// Estimates for one question in bits: I(Z;Y|X) and I(X;Z), each `[whose thought][scored by whom]`.
pub type Informed = [[[f64; 2]; 2]; 2];

/// Everything that was found.
#[derive(Default)]
pub struct Found {
    /// By mode, by arm, by question; none where an arm is not asked in a mode.
    pub replies: Vec<Vec<Vec<Reply>>>,
    /// On worked solutions or the user's text.
    pub predicted: Vec<Predicted>,
    /// The predicted tokens of each of those texts.
    pub targets: Vec<Vec<u32>>,
    /// The questions that they are the solutions of; none for the user's text.
    pub solved: Vec<usize>,
    /// On the reference's own replies, by question, where they are not the worked solution.
    pub own: Vec<Option<Predicted>>,
    /// By asked arm: its number, the questions' numbers and what came of each.
    pub crossed: Vec<(usize, Vec<usize>, Vec<Crossed>)>,
    /// Likewise.
    pub informed: Vec<(usize, Vec<usize>, Vec<Informed>)>,
    /// By arm asked for.
    pub attention: Vec<(usize, Vec<AttentionDrift>)>,
}

impl Predicted {
    /// What is wrong with the predictions of a text of so many tokens by so many arms.
    fn misfit(&self, arms: usize, tokens: usize) -> Option<String> {
        if self.arms.len() != arms {
            return Some(format!("a text has {} arms, expected {arms}", self.arms.len()));
        }
        let mut lengths = self.arms.iter().map(Vec::len).chain([self.reference.len()]);
        let found = lengths.find(|&found| found != tokens)?;
        Some(format!("a text has {found} tokens, expected {tokens}"))
    }
}

impl Plan {
    /// Questions (and texts) that the run goes through, for its progress.
    pub fn work(&self) -> u64 {
        let (asked, questions) = (self.asked().count(), self.questions.len());
        let writes = |&mode: &Mode| (0..self.arms.len()).filter(|&arm| self.asks(arm, mode)).count();
        let written = self.modes.iter().map(writes).sum::<usize>() * questions;
        let crossed = if self.modes.contains(&Mode::Thought) { asked * questions.min(CROSSED) } else { 0 };
        (written + self.texts_len() + crossed) as u64
    }

    fn texts_len(&self) -> usize {
        self.text
            .as_ref()
            .map_or(self.questions.len().min(PREDICTED), |(_, tokens)| tokens.len().div_ceil(self.window))
    }

    /// Whether an arm answers in a mode. Controls answer in the first alone, which is the one that is judged.
    fn asks(&self, arm: usize, mode: Mode) -> bool {
        self.arms[arm].role != Role::Control || self.modes.first() == Some(&mode)
    }

    fn asked(&self) -> impl Iterator<Item = usize> {
        (1..self.arms.len()).filter(|&arm| self.arms[arm].role == Role::Asked)
    }
}

/// What a run works with.
pub struct Run<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The engine, with the plan's arms.
    pub engine: &'a mut Engine,
    /// How questions are put.
    pub prompter: &'a Prompter<'a>,
    /// What is done.
    pub journal: &'a mut Journal,
    /// Is told of questions as they are done.
    pub progress: &'a mut dyn FnMut(u64),
    /// Whether to stop at the next token; what is journaled stays.
    pub interrupted: &'a dyn Fn() -> bool,
}

impl Run<'_> {
    /// Does all that is not done yet.
    ///
    /// # Errors
    /// When a question does not fit the model, the device fails, the journal cannot be written, or the user
    /// interrupts.
    pub fn all(mut self) -> Result<Found> {
        let mut found = Found::default();
        for &mode in &self.plan.modes {
            let mut replies = Vec::new();
            for arm in 0..self.plan.arms.len() {
                let wanted = self.plan.asks(arm, mode);
                replies.push(if wanted { self.write(arm, mode)? } else { Vec::new() });
            }
            found.replies.push(replies);
        }
        self.predict(&mut found)?;
        let lengths: Vec<usize> = found.targets.iter().map(Vec::len).collect();
        self.expect_predicted("predict", &found.predicted, &lengths)?;
        if let Some(mode) = self.plan.modes.iter().position(|&mode| mode == Mode::Thought) {
            let replies = std::mem::take(&mut found.replies[mode]);
            found.own = self.predict_own(&replies, &found)?;
            for arm in self.plan.asked() {
                let numbers = spread(self.plan.questions.len(), CROSSED);
                let crossed = self.cross(arm, &numbers, &replies)?;
                self.expect(&self.unit("cross", arm), "questions", crossed.len(), numbers.len())?;
                found.crossed.push((arm, numbers, crossed));
                let numbers = spread(self.plan.questions.len(), INFORMED);
                let informed = self.inform(arm, &numbers, &replies)?;
                self.expect(&self.unit("inform", arm), "questions", informed.len(), numbers.len())?;
                found.informed.push((arm, numbers, informed));
            }
            found.replies[mode] = replies;
        }
        for arm in self.plan.asked() {
            found.attention.push((arm, self.attend(arm)?));
        }
        Ok(found)
    }

    fn unit(&self, what: &str, arm: usize) -> String {
        format!("{what}/{}", self.plan.arms[arm].name)
    }

    /// Refuses a unit that has not as many of something as its work gives: what a journal says of one question must not be
    /// taken for another's.
    fn expect(&self, unit: &str, what: &str, found: usize, expected: usize) -> Result<()> {
        match found == expected {
            true => Ok(()),
            false => Err(self.journal.damaged(unit, &format!("it has {found} {what}, expected {expected}"))),
        }
    }

    /// The same for predictions of texts of so many tokens each.
    fn expect_predicted(&self, unit: &str, predicted: &[Predicted], lengths: &[usize]) -> Result<()> {
        self.expect(unit, "texts", predicted.len(), lengths.len())?;
        match predicted.iter().zip(lengths).find_map(|(text, &n)| text.misfit(self.plan.arms.len(), n)) {
            Some(problem) => Err(self.journal.damaged(unit, &problem)),
            None => Ok(()),
        }
    }

    fn check_interrupt(&self) -> Result<()> {
        check(self.interrupted)
    }

    /// Replies of an arm to all questions.
    fn write(&mut self, arm: usize, mode: Mode) -> Result<Vec<Reply>> {
        let mut replies = Vec::new();
        for (chunk, questions) in self.plan.questions.chunks(CHUNK).enumerate() {
            let unit = format!("write/{}/{}/{chunk}", self.plan.arms[arm].name, mode.name());
            let (engine, plan, prompter, interrupted) =
                (&mut *self.engine, self.plan, self.prompter, self.interrupted);
            let written = self.journal.unit(&unit, || {
                let prompts: Vec<String> =
                    questions.iter().map(|q| prompter.text(q, mode)).collect::<Result<_>>()?;
                engine.select(arm);
                generate(engine, plan, prompter, interrupted, mode, &prompts, plan.max_tokens)
            });
            self.check_interrupt()?;
            let written = written?;
            self.expect(&unit, "replies", written.len(), questions.len())?;
            replies.extend(written);
            (self.progress)(questions.len() as u64);
        }
        Ok(replies)
    }

    /// The worked solution of a question after its prompt, to its end.
    fn worked_text(&self, question: &Question, mode: Mode) -> Result<Text> {
        let prompt = self.prompter.text(question, mode)?;
        let (mut tokens, from) = self.prompter.encode_after(&prompt, &worked(question, mode))?;
        tokens.extend(self.plan.closing);
        Ok(Text { tokens, from })
    }

    /// Predictions of worked solutions, or of the user's text.
    fn predict(&mut self, found: &mut Found) -> Result<()> {
        let mode = self.plan.modes.first().copied().unwrap_or(Mode::Direct);
        let texts: Vec<Text> = match &self.plan.text {
            Some((_, tokens)) => tokens
                .chunks(self.plan.window)
                .filter(|window| window.len() > 1)
                .map(|window| Text { tokens: window.to_vec(), from: 1 })
                .collect(),
            None => {
                found.solved = spread(self.plan.questions.len(), PREDICTED);
                let solved = found.solved.iter().map(|&q| self.worked_text(&self.plan.questions[q], mode));
                solved.collect::<Result<_>>()?
            }
        };
        found.targets = texts.iter().map(|text| text.tokens[text.from..].to_vec()).collect();
        for (chunk, texts) in texts.chunks(CHUNK).enumerate() {
            let engine = &mut *self.engine;
            let predicted = self.journal.unit(&format!("predict/{chunk}"), || compare(engine, texts))?;
            self.check_interrupt()?;
            found.predicted.extend(predicted);
            (self.progress)(texts.len() as u64);
        }
        Ok(())
    }

    /// Predictions of the reference's own replies from which those of an arm that was asked for differ, unless they are
    /// worked solutions that were predicted: the margins of its choices there.
    fn predict_own(&mut self, replies: &[Vec<Reply>], found: &Found) -> Result<Vec<Option<Predicted>>> {
        let mut own = vec![None; self.plan.questions.len()];
        let differs = |q: &usize| {
            let reply = &replies[0][*q].tokens;
            let solution = found.solved.iter().position(|s| s == q).map(|i| &found.targets[i]);
            let known = solution.is_some_and(|solution| solution.starts_with(reply));
            let parted = |arm: usize| replies[arm][*q].tokens != *reply;
            !reply.is_empty() && !known && self.plan.asked().any(parted)
        };
        let numbers: Vec<usize> = (0..self.plan.questions.len()).filter(differs).collect();
        for (chunk, numbers) in numbers.chunks(CHUNK).enumerate() {
            let (engine, plan, prompter) = (&mut *self.engine, self.plan, self.prompter);
            let unit = format!("own/{chunk}");
            let predicted = self.journal.unit(&unit, || {
                let text = |&q: &usize| -> Result<Text> {
                    let mut tokens = prompter.encode(&prompter.text(&plan.questions[q], Mode::Thought)?)?;
                    let from = tokens.len();
                    tokens.extend(&replies[0][q].tokens);
                    Ok(Text { tokens, from })
                };
                compare(engine, &numbers.iter().map(text).collect::<Result<Vec<_>>>()?)
            })?;
            self.check_interrupt()?;
            let lengths: Vec<usize> = numbers.iter().map(|&q| replies[0][q].tokens.len()).collect();
            self.expect_predicted(&unit, &predicted, &lengths)?;
            numbers.iter().zip(predicted).for_each(|(&q, predicted)| own[q] = Some(predicted));
        }
        Ok(own)
    }

    /// Answers from the thoughts of either to either.
    fn cross(&mut self, arm: usize, numbers: &[usize], replies: &[Vec<Reply>]) -> Result<Vec<Crossed>> {
        let mut crossed = Vec::new();
        for (chunk, numbers) in numbers.chunks(CHUNK).enumerate() {
            let unit = format!("cross/{}/{chunk}", self.plan.arms[arm].name);
            let (engine, plan, prompter, interrupted) =
                (&mut *self.engine, self.plan, self.prompter, self.interrupted);
            let context = engine.context();
            let found = self.journal.unit(&unit, || {
                let mut found = vec![Crossed::default(); numbers.len()];
                for (t, thinker) in [0, arm].into_iter().enumerate() {
                    let prompt = |&q: &usize| -> Result<String> {
                        let prompt = prompter.text(&plan.questions[q], Mode::Thought)?;
                        let thought = fitting(plan, prompter, context, q, &replies[thinker][q].text)?;
                        Ok(prompt + &after_thought(thought))
                    };
                    let prompts: Vec<String> = numbers.iter().map(prompt).collect::<Result<_>>()?;
                    for (a, answerer) in [0, arm].into_iter().enumerate() {
                        engine.select(answerer);
                        let mode = Mode::Direct;
                        let texts =
                            generate(engine, plan, prompter, interrupted, mode, &prompts, ANSWER_TOKENS)?;
                        for (found, reply) in found.iter_mut().zip(texts) {
                            found[t][a] = answer(mode, &reply.text).unwrap_or_default().to_owned();
                        }
                    }
                }
                Ok(found)
            });
            self.check_interrupt()?;
            crossed.extend(found?);
            (self.progress)(numbers.len() as u64);
        }
        Ok(crossed)
    }

    /// Estimates of information, question by question.
    fn inform(&mut self, arm: usize, numbers: &[usize], replies: &[Vec<Reply>]) -> Result<Vec<Informed>> {
        let unit = format!("inform/{}", self.plan.arms[arm].name);
        let (engine, plan, prompter) = (&mut *self.engine, self.plan, self.prompter);
        let context = engine.context();
        let informed = self.journal.unit(&unit, || {
            // The texts of one thinker: for each question the answer after its thought, the answer at once, the
            // thought after its question, and the thought after other questions.
            let texts = |thinker: usize| -> Result<Vec<Text>> {
                let mut texts = Vec::new();
                let text = |prompt: &str, rest: &str| -> Result<Text> {
                    let (tokens, from) = prompter.encode_after(prompt, rest)?;
                    Ok(Text { tokens, from })
                };
                for &q in numbers {
                    let question = &plan.questions[q];
                    let thought = fitting(plan, prompter, context, q, &replies[thinker][q].text)?;
                    let answer = format!(" {}", question.answer);
                    let prompt = prompter.text(question, Mode::Thought)?;
                    texts.push(text(&format!("{prompt}{}", after_thought(thought)), &answer)?);
                    texts.push(text(&prompter.text(question, Mode::Direct)?, &answer)?);
                    // An empty thought still ends.
                    let ended = after_thought(thought);
                    texts.push(text(&prompt, &ended)?);
                    for other in others(&plan.questions, q) {
                        texts.push(text(&prompter.text(&plan.questions[other], Mode::Thought)?, &ended)?);
                    }
                }
                Ok(texts)
            };
            let mut informed = vec![Informed::default(); numbers.len()];
            for (t, thinker) in [0, arm].into_iter().enumerate() {
                let texts = texts(thinker)?;
                for (s, scorer) in [0, arm].into_iter().enumerate() {
                    engine.select(scorer);
                    engine.forget();
                    let scores = block_on(engine.score_all(&texts))?;
                    let mut bits = scores
                        .iter()
                        .map(|text| text.iter().map(|&l| f64::from(l)).sum::<f64>() / std::f64::consts::LN_2);
                    for (found, &q) in informed.iter_mut().zip(numbers) {
                        let mut next = || bits.next().unwrap_or_default();
                        let (after, at_once, own) = (next(), next(), next());
                        let rest: Vec<f64> = others(&plan.questions, q).iter().map(|_| next()).collect();
                        found[0][t][s] = after - at_once;
                        found[1][t][s] = if rest.is_empty() { 0.0 } else { own - log2_mean_exp2(&rest) };
                    }
                }
            }
            engine.select(0);
            Ok(informed)
        })?;
        self.check_interrupt()?;
        Ok(informed)
    }

    /// How far an arm's attention is from the reference's.
    fn attend(&mut self, arm: usize) -> Result<Vec<AttentionDrift>> {
        let mode = self.plan.modes.first().copied().unwrap_or(Mode::Direct);
        let texts: Vec<Vec<u32>> = match &self.plan.text {
            Some((_, tokens)) => tokens.chunks(self.plan.window).take(1).map(<[u32]>::to_vec).collect(),
            None => spread(self.plan.questions.len(), ATTENDED)
                .into_iter()
                .map(|q| Ok(self.worked_text(&self.plan.questions[q], mode)?.tokens))
                .collect::<Result<_>>()?,
        };
        let engine = &mut *self.engine;
        let drift = self.journal.unit(&format!("attention/{}", self.plan.arms[arm].name), || {
            let mut sums: Vec<(usize, usize, [f64; 3])> = Vec::new();
            let mut rows = 0;
            for tokens in &texts {
                engine.select(0);
                let reference = block_on(engine.attention(tokens))?;
                engine.select(arm);
                let other = block_on(engine.attention(tokens))?;
                engine.select(0);
                let heads = reference.iter().zip(&other).enumerate().flat_map(|(layer, (a, b))| {
                    a.iter().zip(b).enumerate().map(move |(head, (a, b))| (layer, head, a, b))
                });
                for (i, (layer, head, a, b)) in heads.enumerate() {
                    if sums.len() == i {
                        sums.push((layer, head, [0.0; 3]));
                    }
                    for (a, b) in a.iter().zip(b) {
                        let apart: f64 =
                            a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / 2.0;
                        let found = [apart, entropy_bits(a), entropy_bits(b)];
                        sums[i].2.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
                    }
                }
                rows += tokens.len();
            }
            let drift = |(layer, head, sums): (usize, usize, [f64; 3])| {
                let [distance, entropy_reference, entropy_arm] = sums.map(|sum| sum / rows.max(1) as f64);
                AttentionDrift { layer, head, distance, entropy_reference, entropy_arm }
            };
            Ok(sums.into_iter().map(drift).collect::<Vec<_>>())
        })?;
        self.check_interrupt()?;
        Ok(drift)
    }
}

fn check(interrupted: &dyn Fn() -> bool) -> Result<()> {
    match interrupted() {
        true => Err(Error::Model(
            "interrupted; the same command goes on from here, and ends in the same results".to_owned(),
        )),
        false => Ok(()),
    }
}

/// At most `most` numbers below `n`, evenly apart.
fn spread(n: usize, most: usize) -> Vec<usize> {
    let count = n.min(most);
    (0..count).map(|i| i * n / count).collect()
}

/// Questions that are like question `q`, to hold its thought against: of the same task and number of steps first.
fn others(questions: &[Question], q: usize) -> Vec<usize> {
    let kind = |i: usize| (&questions[i].task, questions[i].steps);
    let like = (0..questions.len()).filter(|&i| i != q && kind(i) == kind(q));
    let unlike = (0..questions.len()).filter(|&i| i != q && kind(i) != kind(q));
    like.chain(unlike).take(OTHERS).collect()
}

/// The thought in a reply to question `q`, or as much of it as leaves room for an answer, after its own prompt and after
/// those that it is held against: a thought that was cut short may have more tokens when it is encoded again than were
/// written. The same rule for every arm.
fn fitting<'t>(
    plan: &Plan,
    prompter: &Prompter<'_>,
    context: usize,
    q: usize,
    reply: &'t str,
) -> Result<&'t str> {
    let prompts = std::iter::once(q).chain(others(&plan.questions, q));
    let prompts: Vec<String> =
        prompts.map(|q| prompter.text(&plan.questions[q], Mode::Thought)).collect::<Result<_>>()?;
    let answer = format!(" {}", plan.questions[q].answer);
    let (all, from) = prompter.encode_after(&(prompts[0].clone() + &after_thought("")), &answer)?;
    let most = context.saturating_sub(ANSWER_TOKENS.max(all.len() - from));
    let fits = |thought: &str| -> Result<bool> {
        let mut longest = 0;
        for prompt in &prompts {
            longest = longest.max(prompter.encode(&format!("{prompt}{}", after_thought(thought)))?.len());
        }
        Ok(longest <= most)
    };
    let thought = thought(reply);
    if fits(thought)? {
        return Ok(thought);
    }
    // An empty thought fits: the context was made for that.
    let ends: Vec<usize> = thought.char_indices().map(|(at, _)| at).collect();
    let (mut fit, mut long) = (0, ends.len());
    while fit + 1 < long {
        let middle = usize::midpoint(fit, long);
        *(if fits(&thought[..ends[middle]])? { &mut fit } else { &mut long }) = middle;
    }
    Ok(&thought[..ends.get(fit).copied().unwrap_or_default()])
}

fn entropy_bits(p: &[f32]) -> f64 {
    p.iter().map(|&p| f64::from(p)).filter(|&p| p > 0.0).map(|p| -p * p.log2()).sum()
}

/// log2 of the mean of 2^x.
fn log2_mean_exp2(x: &[f64]) -> f64 {
    let greatest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    greatest + (x.iter().map(|x| (x - greatest).exp2()).sum::<f64>() / x.len() as f64).log2()
}

fn compare(engine: &mut Engine, texts: &[Text]) -> Result<Vec<Predicted>> {
    engine.select(0);
    engine.forget();
    let by_arm = block_on(engine.compare(texts))?;
    let predicted = |text: usize| {
        let arms = by_arm.iter().map(|arm| arm[text].iter().map(|d| [d.kl, d.arm, d.same_top]).collect());
        let reference = by_arm[0][text].iter().map(|d| [d.reference, d.entropy, d.margin]).collect();
        Predicted { reference, arms: arms.collect() }
    };
    Ok((0..texts.len()).map(predicted).collect())
}

/// Continues prompts greedily with the selected arm, from nothing: a run that went on from its journal has no
/// keys and values of what came before.
fn generate(
    engine: &mut Engine,
    plan: &Plan,
    prompter: &Prompter<'_>,
    interrupted: &dyn Fn() -> bool,
    mode: Mode,
    prompts: &[String],
    max_tokens: usize,
) -> Result<Vec<Reply>> {
    let requests: Vec<Request> = prompts
        .iter()
        .map(|prompt| {
            let prompt = prompter.encode(prompt)?;
            Ok(Request { prompt, max_tokens, sampling: Sampling::GREEDY, end: plan.end.clone() })
        })
        .collect::<Result<_>>()?;
    let mut streams: Vec<TokenStream<'_>> = requests
        .iter()
        .map(|request| TokenStream::new(prompter.tokenizer, &request.prompt))
        .collect::<Result<_>>()?;
    let mut texts = vec![String::new(); requests.len()];
    let mut complete = vec![false; requests.len()];
    let mut failed = None;
    engine.forget();
    let generations = block_on(engine.generate(&requests, &mut |request, token| {
        match streams[request].push(token) {
            Ok(piece) => texts[request].push_str(&piece.unwrap_or_default()),
            Err(e) => failed = Some(e),
        }
        complete[request] = prompter.complete(mode, &texts[request]);
        match complete[request] || failed.is_some() || interrupted() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }))?;
    if let Some(e) = failed {
        return Err(e);
    }
    // What was broken off is no reply.
    check(interrupted)?;
    let mut replies = Vec::with_capacity(texts.len());
    for (((generation, stream), mut text), complete) in
        generations.into_iter().zip(streams).zip(texts).zip(complete)
    {
        text.push_str(&stream.finish()?);
        let cut = !complete && generation.stop != crate::engine::Stop::Eos;
        replies.push(Reply { text, tokens: generation.tokens, cut });
    }
    Ok(replies)
}

#[cfg(test)]
mod tests;
