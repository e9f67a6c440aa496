//! Whatever becomes of a policy file on its way, reading it ends in a policy or in problems.

use weir_policy::{Book, Policy, Problem, parse_bytes};

const SAMPLE: &[u8] = include_bytes!("../../nginx/policy.toml");
const ROUNDS: u64 = 3_000;

#[test]
fn no_mutation_of_the_sample_panics() {
    let mut accepted = 0;
    for seed in 0..ROUNDS {
        let mut random = fastrand::Rng::with_seed(seed);
        let text = mutated(&mut random);
        match parse_bytes(&text) {
            Ok(policy) => {
                accepted += 1;
                use_it(policy);
            }
            Err(problems) => problems.iter().for_each(|problem| check(problem, &text, seed)),
        }
    }
    // Both ways must have been walked: many a flipped byte only changes a comment or a name.
    assert!((ROUNDS / 50..ROUNDS).contains(&accepted), "{accepted} of {ROUNDS} accepted");
}

fn mutated(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut text = SAMPLE.to_vec();
    for _ in 0..random.usize(1..=3) {
        // Cutting may leave nothing.
        if text.is_empty() {
            break;
        }
        let at = random.usize(..text.len());
        match random.u8(..6) {
            0 => text[at] ^= 1 << random.u8(..8),
            1 => text[at] = random.u8(..),
            2 => drop(text.remove(at)),
            3 => text.truncate(at.max(1)),
            4 => remove_line(&mut text, at),
            _ => double_line(&mut text, at),
        }
    }
    text
}

fn line_around(text: &[u8], at: usize) -> std::ops::Range<usize> {
    let start = text[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let end = text[at..].iter().position(|&byte| byte == b'\n').map_or(text.len(), |n| at + n + 1);
    start..end
}

fn remove_line(text: &mut Vec<u8>, at: usize) {
    let line = line_around(text, at);
    text.drain(line);
    text.push(b'\n');
}

fn double_line(text: &mut Vec<u8>, at: usize) {
    let line = line_around(text, at);
    let copy = text[line.clone()].to_vec();
    text.splice(line.start..line.start, copy);
}

fn use_it(policy: Policy) {
    let ids: Vec<_> = policy.clients.iter().map(|client| client.id.clone()).collect();
    let (book, mut applied) = (Book::compile(policy), Vec::new());
    for id in &ids {
        let caller = book.by_client(id, None);
        book.limits(&caller, "POST", "/orders", 0, &mut applied);
        assert!(applied.iter().all(|limit| limit.window_ms >= 1_000));
    }
}

fn check(problem: &Problem, text: &[u8], seed: u64) {
    let lines = text.iter().filter(|&&byte| byte == b'\n').count() + 1;
    assert!((1..=lines).contains(&problem.line), "seed {seed}: {problem}");
    assert!(problem.column >= 1 && problem.column <= text.len() + 1, "seed {seed}: {problem}");
    assert!(!problem.message.is_empty() && !problem.message.contains('\n'), "seed {seed}");
}
