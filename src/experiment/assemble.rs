//! From what was found to results: counts, intervals, verdicts.

use super::prompts::{Mode, answer, is_right, reached, steps_right};
use super::random::Random;
use super::results::{
    Cell, Comparison, Crossover, Flip, FreeRunning, Histogram, Information, Slice, TeacherForced,
};
use super::run::{Found, Plan, Reply};
use super::stats::{
    self, Estimate, Judgement, Outcome, Thinking, bootstrap, gains, histogram, judge, mean_interval,
    step_error, summarize, survival, wilson,
};
use super::tasks::Question;

/// Resamples of an interval.
const RESAMPLES: usize = 2000;

/// Flips that are kept with their texts.
const FLIPS: usize = 12;

/// What assembling needs beside what was found.
pub struct Terms<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Margin of non-inferiority.
    pub margin: f64,
    /// Where random numbers start.
    pub seed: u64,
    /// Whether a token is (part of) a number.
    pub is_digit: &'a dyn Fn(u32) -> bool,
}

impl Terms<'_> {
    fn random(&self, names: &[&str]) -> Random {
        Random::new(self.seed, names)
    }

    /// Right answers, by arm, mode, task and steps.
    pub fn cells(&self, found: &Found) -> Vec<Cell> {
        let mut cells = Vec::new();
        for (arm, info) in self.plan.arms.iter().enumerate() {
            let modes = self.plan.modes.iter().enumerate();
            for (m, &mode) in modes.filter(|(m, _)| !found.replies[*m][arm].is_empty()) {
                for (task, steps) in kinds(&self.plan.questions) {
                    let numbers: Vec<usize> = (0..self.plan.questions.len())
                        .filter(|&q| {
                            let question = &self.plan.questions[q];
                            (question.task.as_str(), question.steps) == (task, steps)
                        })
                        .collect();
                    let right = numbers.iter().filter(|&&q| self.right(found, m, arm, q)).count();
                    let chance = numbers.iter().map(|&q| self.plan.questions[q].chance).sum::<f64>();
                    cells.push(Cell {
                        arm: info.name.clone(),
                        mode: mode.name().to_owned(),
                        task: task.to_owned(),
                        steps,
                        n: numbers.len(),
                        right,
                        accuracy: wilson(right, numbers.len()),
                        chance: chance / numbers.len().max(1) as f64,
                    });
                }
            }
        }
        cells
    }

    fn right(&self, found: &Found, mode: usize, arm: usize, question: usize) -> bool {
        let reply = &found.replies[mode][arm][question];
        is_right(&self.plan.questions[question], answer(self.plan.modes[mode], &reply.text))
    }

    /// Each arm but the first against the first.
    pub fn comparisons(&self, found: &Found) -> Vec<Comparison> {
        (1..self.plan.arms.len()).map(|arm| self.comparison(found, arm)).collect()
    }

    fn comparison(&self, found: &Found, arm: usize) -> Comparison {
        let name = self.plan.arms[arm].name.clone();
        // The first mode is the one that is judged: with thought, unless there is only the other.
        let (overall, tasks) = self.judgements(found, 0, arm);
        let direct = match found.replies.get(1) {
            Some(replies) if !replies[arm].is_empty() => {
                let (overall, mut tasks) = self.judgements(found, 1, arm);
                tasks.push(overall);
                tasks
            }
            _ => Vec::new(),
        };
        let teacher_forced = self.teacher_forced(found, arm);
        let sentence = match self.plan.questions.is_empty() {
            true => text_sentence(&name, &self.plan.arms[0].name, &teacher_forced),
            false => stats::sentence(&overall, &name, &self.plan.arms[0].name),
        };
        Comparison {
            overall,
            tasks,
            direct,
            sentence,
            teacher_forced,
            free_running: self.free_running(found, arm),
            crossover: self.crossover(found, arm),
            information: self.information(found, arm),
            attention: found
                .attention
                .iter()
                .find(|(a, _)| *a == arm)
                .map(|(_, d)| d.clone())
                .unwrap_or_default(),
            flips: self.flips(found, arm),
            arm: name,
        }
    }

    fn judgements(&self, found: &Found, mode: usize, arm: usize) -> (Judgement, Vec<Judgement>) {
        let outcomes: Vec<Outcome> = self
            .plan
            .questions
            .iter()
            .enumerate()
            .map(|(q, question)| {
                let said = |arm: usize| answer(self.plan.modes[mode], &found.replies[mode][arm][q].text);
                Outcome {
                    reference: self.right(found, mode, 0, q),
                    arm: self.right(found, mode, arm, q),
                    same: said(0) == said(arm),
                    chance: question.chance,
                }
            })
            .collect();
        let mut tasks: Vec<&str> = Vec::new();
        for question in &self.plan.questions {
            if !tasks.contains(&question.task.as_str()) {
                tasks.push(&question.task);
            }
        }
        let of_task = |task: &str| {
            let of: Vec<Outcome> = outcomes
                .iter()
                .zip(&self.plan.questions)
                .filter(|(_, question)| question.task == task)
                .map(|(outcome, _)| *outcome)
                .collect();
            judge(task, &of, self.margin, self.seed)
        };
        (judge("overall", &outcomes, self.margin, self.seed), tasks.into_iter().map(of_task).collect())
    }

    fn teacher_forced(&self, found: &Found, arm: usize) -> TeacherForced {
        let positions = || {
            found.predicted.iter().zip(&found.targets).flat_map(move |(text, targets)| {
                text.reference.iter().zip(&text.arms[arm]).zip(targets).map(|((r, a), &t)| (r, a, t))
            })
        };
        let n = positions().count();
        if n == 0 {
            return TeacherForced::default();
        }
        let mut kl: Vec<f64> = positions().map(|(_, a, _)| f64::from(a[0])).collect();
        let mut delta: Vec<f64> =
            positions().map(|(r, a, _)| f64::from(a[1]).exp() - f64::from(r[0]).exp()).collect();
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / n as f64;
        let mut edges: Vec<f64> = (-8..=1).map(|e| 10f64.powi(e)).collect();
        edges.insert(0, 0.0);
        let counts = histogram(&kl, &edges);
        // By text: bootstrap over texts, never over tokens.
        let by_text: Vec<(f64, f64)> = found
            .predicted
            .iter()
            .map(|text| {
                let pairs = text.reference.iter().zip(&text.arms[arm]);
                let apart = pairs.map(|(r, a)| f64::from(r[0]) - f64::from(a[1])).sum::<f64>();
                (apart, text.reference.len() as f64)
            })
            .collect();
        let ratio = bootstrap(by_text.len(), RESAMPLES, &mut self.random(&["perplexity"]), |texts| {
            let (apart, tokens) =
                texts.iter().fold((0.0, 0.0), |sum, &i| (sum.0 + by_text[i].0, sum.1 + by_text[i].1));
            (tokens > 0.0).then(|| (apart / tokens).exp())
        });
        let bits = |r: &[f32; 3]| f64::from(r[1]) / std::f64::consts::LN_2;
        let slice = |what: &str, wanted: &dyn Fn(&[f32; 3], u32) -> bool| {
            let of: Vec<&[f32; 3]> =
                positions().filter(|(r, _, t)| wanted(r, *t)).map(|(_, a, _)| a).collect();
            let mean = |i: usize| of.iter().map(|a| f64::from(a[i])).sum::<f64>() / of.len().max(1) as f64;
            Slice { what: what.to_owned(), n: of.len(), kl: mean(0), same_top: mean(2) }
        };
        TeacherForced {
            texts: self.plan.text.as_ref().map_or("worked solutions".to_owned(), |(name, _)| name.clone()),
            delta_p: summarize(&mut delta),
            same_top: mean(&mut positions().map(|(_, a, _)| f64::from(a[2]))),
            nll_reference: mean(&mut positions().map(|(r, _, _)| -f64::from(r[0]))),
            nll_arm: mean(&mut positions().map(|(_, a, _)| -f64::from(a[1]))),
            perplexity_ratio: ratio,
            slices: vec![
                slice("reference sure: entropy below 0.1 bit", &|r, _| bits(r) < 0.1),
                slice("reference unsure: 0.1 to 1 bit", &|r, _| (0.1..1.0).contains(&bits(r))),
                slice("reference at a loss: 1 bit and more", &|r, _| bits(r) >= 1.0),
                slice("digits", &|_, t| (self.is_digit)(t)),
                slice("other tokens", &|_, t| !(self.is_digit)(t)),
            ],
            kl_histogram: Histogram { edges, counts },
            kl: summarize(&mut kl),
        }
    }

    fn free_running(&self, found: &Found, arm: usize) -> FreeRunning {
        let Some(mode) = self.plan.modes.iter().position(|&mode| mode == Mode::Thought) else {
            return FreeRunning::default();
        };
        let (reference, other) = (&found.replies[mode][0], &found.replies[mode][arm]);
        let questions = &self.plan.questions;
        let apart: Vec<(Option<usize>, usize)> =
            reference.iter().zip(other).map(|(a, b)| divergence(a, b)).collect();
        // Of each choice of the reference in its own reply, where that is known.
        let margins = |q: usize| -> &[[f32; 3]] {
            let solution = || found.solved.iter().position(|&s| s == q).map(|i| &found.predicted[i]);
            match found.own.get(q).and_then(Option::as_ref).or_else(solution) {
                Some(predicted) => &predicted.reference,
                None => &[],
            }
        };
        let mut at: Vec<f64> = Vec::new();
        for (q, (diverged, _)) in apart.iter().enumerate() {
            at.extend(diverged.and_then(|t| margins(q).get(t)).map(|r| f64::from(r[2])));
        }
        let mut elsewhere: Vec<f64> =
            (0..questions.len()).flat_map(|q| margins(q).iter().map(|r| f64::from(r[2]))).collect();
        let lengths = |replies: &[Reply]| {
            let mut lengths: Vec<f64> = replies.iter().map(|r| r.tokens.len() as f64).collect();
            summarize(&mut lengths)
        };
        let lost = |arm: usize| {
            let replies = &found.replies[mode][arm];
            (0..questions.len())
                .filter(|&q| !self.right(found, mode, arm, q) && reached(&questions[q], &replies[q].text))
                .count()
        };
        let error = |arm: usize| {
            let cells: Vec<(usize, usize, usize)> = kinds(questions)
                .into_iter()
                .filter(|(_, steps)| *steps > 0)
                .map(|(task, steps)| {
                    let of = (0..questions.len())
                        .filter(|&q| (questions[q].task.as_str(), questions[q].steps) == (task, steps));
                    let (right, n) = of
                        .fold((0, 0), |(r, n), q| (r + usize::from(self.right(found, mode, arm, q)), n + 1));
                    (steps, right, n)
                })
                .collect();
            step_error(&cells)
        };
        let followed = |replies: &[Reply]| {
            let of: Vec<f64> = questions
                .iter()
                .zip(replies)
                .filter(|(q, _)| !q.thought.is_empty())
                .map(|(q, reply)| steps_right(q, &reply.text))
                .collect();
            of.iter().sum::<f64>() / of.len().max(1) as f64
        };
        let direct = self.plan.modes.iter().position(|&mode| mode == Mode::Direct);
        let direct = direct.filter(|&direct| !found.replies[direct][arm].is_empty());
        let thinking = direct.and_then(|direct| {
            let units: Vec<Thinking> = (0..questions.len())
                .map(|q| Thinking {
                    reference_thought: self.right(found, mode, 0, q),
                    reference_direct: self.right(found, direct, 0, q),
                    arm_thought: self.right(found, mode, arm, q),
                    arm_direct: self.right(found, direct, arm, q),
                })
                .collect();
            gains(&units, &mut self.random(&["gains"]))
        });
        FreeRunning {
            survival: survival(&apart),
            diverged: apart.iter().filter(|(diverged, _)| diverged.is_some()).count(),
            texts: apart.len(),
            margin_at_divergence: summarize(&mut at),
            margin_elsewhere: summarize(&mut elsewhere),
            length_reference: lengths(reference),
            length_arm: lengths(other),
            cut_off_reference: reference.iter().filter(|reply| reply.cut).count(),
            cut_off_arm: other.iter().filter(|reply| reply.cut).count(),
            reached_and_lost: lost(arm),
            reached_and_lost_reference: lost(0),
            step_error_reference: error(0),
            step_error_arm: error(arm),
            steps_right_reference: followed(reference),
            steps_right_arm: followed(other),
            gain_reference: thinking.as_ref().map(|t| t.reference),
            gain_arm: thinking.as_ref().map(|t| t.arm),
            interaction: thinking.as_ref().map(|t| t.interaction),
        }
    }

    fn crossover(&self, found: &Found, arm: usize) -> Option<Crossover> {
        let (_, numbers, crossed) = found.crossed.iter().find(|(a, ..)| *a == arm)?;
        let accuracy = |thinker: usize, answerer: usize| {
            let right = numbers.iter().zip(crossed).filter(|(q, answers)| {
                let said = &answers[thinker][answerer];
                is_right(&self.plan.questions[**q], (!said.is_empty()).then_some(said.as_str()))
            });
            wilson(right.count(), numbers.len())
        };
        let accuracy = [0, 1].map(|thinker| [0, 1].map(|answerer| accuracy(thinker, answerer)));
        Some(Crossover { n: numbers.len(), accuracy })
    }

    fn information(&self, found: &Found, arm: usize) -> Option<Information> {
        let (_, numbers, informed) = found.informed.iter().find(|(a, ..)| *a == arm)?;
        let mut random = self.random(&["information"]);
        let mut estimate = |which: usize, thinker: usize, scorer: usize| -> Option<Estimate> {
            let bits: Vec<f64> = informed.iter().map(|i| i[which][thinker][scorer]).collect();
            mean_interval(&bits, &mut random)
        };
        let mut all = [[[None; 2]; 2]; 2];
        for (which, by_which) in all.iter_mut().enumerate() {
            for (thinker, by_thinker) in by_which.iter_mut().enumerate() {
                for (scorer, found) in by_thinker.iter_mut().enumerate() {
                    *found = Some(estimate(which, thinker, scorer)?);
                }
            }
        }
        let nothing = Estimate { value: 0.0, low: 0.0, high: 0.0 };
        let [answer_given_thought, question_in_thought] =
            all.map(|by| by.map(|by| by.map(|found| found.unwrap_or(nothing))));
        Some(Information { n: numbers.len(), answer_given_thought, question_in_thought })
    }

    /// Flipped answers: first those that were lost, of these the fewest steps first.
    fn flips(&self, found: &Found, arm: usize) -> Vec<Flip> {
        if self.plan.questions.is_empty() {
            return Vec::new();
        }
        let mut flips: Vec<Flip> = self
            .plan
            .questions
            .iter()
            .enumerate()
            .filter_map(|(q, question)| {
                let (before, after) = (self.right(found, 0, 0, q), self.right(found, 0, arm, q));
                let text = |arm: usize| found.replies[0][arm][q].text.clone();
                let (reference, arm) = (text(0), text(arm));
                let same = reference.char_indices().zip(arm.chars()).take_while(|((_, a), b)| a == b);
                let common = same.last().map_or(0, |((at, c), _)| at + c.len_utf8());
                (before != after).then(|| Flip {
                    id: question.id.clone(),
                    task: question.task.clone(),
                    steps: question.steps,
                    prompt: question.prompt.clone(),
                    target: question.answer.clone(),
                    common,
                    reference,
                    arm,
                    lost: before,
                })
            })
            .collect();
        flips.sort_by_key(|flip| (!flip.lost, flip.steps));
        flips.truncate(FLIPS);
        flips
    }
}

/// Tasks and numbers of steps, in order of appearance.
fn kinds(questions: &[Question]) -> Vec<(&str, usize)> {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for question in questions {
        let kind = (question.task.as_str(), question.steps);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

/// The first token in which two replies differ, and how many tokens there were to differ in, the one that ends a
/// text included.
fn divergence(a: &Reply, b: &Reply) -> (Option<usize>, usize) {
    let common = a.tokens.iter().zip(&b.tokens).take_while(|(a, b)| a == b).count();
    let same = common == a.tokens.len() && common == b.tokens.len() && a.cut == b.cut;
    ((!same).then_some(common), a.tokens.len() + 1)
}

fn text_sentence(arm: &str, reference: &str, found: &TeacherForced) -> String {
    // One window alone has no interval.
    let interval = found
        .perplexity_ratio
        .map_or(String::new(), |r| format!(" (95% interval {:.4} to {:.4})", r.low, r.high));
    let ratio = (found.nll_arm - found.nll_reference).exp();
    format!(
        "{arm} against {reference} on {}: mean KL {:.5} nats over {} tokens, same likeliest token {:.2}%, perplexity × {ratio:.4}{interval}.",
        found.texts,
        found.kl.mean,
        found.kl.n,
        100.0 * found.same_top
    )
}
