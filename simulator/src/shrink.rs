//! Makes a failing scene smaller, as long as it still fails in the same way.

use weir_limiter::trial::Mutant;

use crate::judge::Failure;
use crate::scene::{Kind, Scene, Traffic};
use crate::world::run_broken;

/// Throws of the dice that are tried for a smaller scene before it counts as one that does not fail.
const LUCKS: u64 = 12;

/// The smallest scene found that fails as `scene` does, with its failure.
pub fn shrink(scene: &Scene, mutant: Option<Mutant>) -> Option<(Scene, Failure)> {
    let failure = run_broken(scene, mutant, false).failure?;
    let (mut best, mut found) = (scene.clone(), failure);
    loop {
        let mut smaller = false;
        for candidate in candidates(&best) {
            if let Some((scene, failure)) = fails(candidate, &found, mutant) {
                (best, found, smaller) = (scene, failure, true);
                break;
            }
        }
        if !smaller {
            return Some((best, found));
        }
    }
}

/// The scene with the luck with which it fails in the same way, if there is one.
fn fails(mut scene: Scene, like: &Failure, mutant: Option<Mutant>) -> Option<(Scene, Failure)> {
    let first = scene.luck;
    for luck in (first..).take(LUCKS as usize) {
        scene.luck = luck;
        if let Some(failure) = run_broken(&scene, mutant, false).failure
            && failure.is_like(like)
        {
            // Nothing after it matters.
            let end = failure.place().0;
            if end < scene.length_ms && scene.kind != Kind::Flood {
                scene.length_ms = end;
            }
            return Some((scene, failure));
        }
    }
    None
}

/// The scene with one thing less, the largest steps first.
fn candidates(scene: &Scene) -> Vec<Scene> {
    let mut all: Vec<Scene> = Vec::new();
    let mut add = |change: &dyn Fn(&mut Scene)| {
        let mut smaller = scene.clone();
        change(&mut smaller);
        if smaller != *scene {
            all.push(smaller);
        }
    };
    // A scene of a server that forgets without that is another scene.
    let spare = |p: &crate::fault::Planned| scene.kind == Kind::Forgetful && p.fault.forgets();
    add(&|s| s.plan.retain(spare));
    add(&|s| s.plan.retain(|p| p.at_ms < s.length_ms));
    for i in 0..scene.plan.len() {
        if !spare(&scene.plan[i]) {
            add(&|s| s.plan = without(&s.plan, i));
        }
    }
    for i in (0..scene.limits.len()).rev().filter(|_| scene.limits.len() > 1) {
        add(&|s| s.limits = without(&s.limits, i));
    }
    add(&|s| s.clients = (s.clients / 2).max(1));
    add(&|s| s.gateways = (s.gateways / 2).max(1));
    add(&|s| s.gateways = (s.gateways - 1).max(1));
    add(&|s| s.workers = (s.workers - 1).max(1));
    add(&|s| s.loss = 0.0);
    add(&|s| s.delay_ms = s.delay_ms.min(1));
    add(&|s| s.delay_ms = s.delay_ms.min(1 + s.delay_ms / 2));
    add(&|s| s.disorder = false);
    add(&|s| s.late = false);
    add(&|s| s.drift_ppm = 0);
    add(&|s| s.lag_ms = 0);
    add(&|s| s.costs = false);
    add(&|s| s.skewed = false);
    add(&|s| s.small_zone = false);
    if scene.kind != Kind::Flood && scene.kind != Kind::Cron {
        add(&|s| s.traffic = Traffic::Steady);
        add(&|s| s.rate = (s.rate / 2.0).max(1.0));
        for i in 0..scene.limits.len() {
            add(&|s| s.limits[i].amount = (s.limits[i].amount / 2).max(1));
        }
    }
    all
}

fn without<T: Clone>(list: &[T], i: usize) -> Vec<T> {
    list.iter().enumerate().filter(|(at, _)| *at != i).map(|(_, item)| item.clone()).collect()
}
