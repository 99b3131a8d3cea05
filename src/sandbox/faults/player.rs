//! Applies a script: counts calls and picks the fault of each.

use super::{Action, Condition, Fault, Script};

#[derive(Debug)]
pub(in crate::sandbox) struct FaultPlayer {
    script: Script,
    /// Number of times that each rule has applied.
    applied: Vec<u64>,
    /// Number of calls of each action.
    calls: [u64; Action::ALL.len()],
    random: fastrand::Rng,
}

impl FaultPlayer {
    pub(in crate::sandbox) fn new(script: Script, seed: u64) -> Self {
        let applied = vec![0; script.0.len()];
        Self { script, applied, calls: [0; Action::ALL.len()], random: fastrand::Rng::with_seed(seed) }
    }

    /// Fault of the next call of this action, from the first rule that matches.
    pub(in crate::sandbox) fn next_fault(&mut self, action: Action, user: Option<&str>) -> Option<Fault> {
        let calls = &mut self.calls[action as usize];
        *calls += 1;
        for (rule, applied) in self.script.0.iter().zip(&mut self.applied) {
            let is_spent = rule.times.is_some_and(|times| *applied >= times);
            if rule.action == action && !is_spent && rule.condition.matches(*calls, user, &mut self.random) {
                *applied += 1;
                return Some(rule.fault.clone());
            }
        }
        None
    }
}

impl Condition {
    fn matches(&self, call: u64, user: Option<&str>, random: &mut fastrand::Rng) -> bool {
        self.calls.as_ref().is_none_or(|calls| calls.contains(&call))
            && self.from.is_none_or(|from| call >= from)
            && self.to.is_none_or(|to| call <= to)
            && self.user.as_ref().is_none_or(|wanted| user == Some(wanted))
            // Drawn last, so that rules for other calls do not advance the generator.
            && self.chance.is_none_or(|chance| random.f64() < chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the first ten calls get a fault.
    fn faulty_calls(script: &str) -> Vec<u64> {
        let mut player = FaultPlayer::new(Script::parse(script).unwrap(), 7);
        (1..=10)
            .filter(|k| {
                player.next_fault(Action::AddFaceRecord, Some(if k % 2 == 0 { "even" } else { "odd" })).is_some()
            })
            .collect()
    }

    #[test]
    fn conditions_select_calls() {
        let table: [(&str, &[u64]); 7] = [
            (r#"{"fault":"stall","calls":[2,5]}"#, &[2, 5]),
            (r#"{"fault":"stall","from":9}"#, &[9, 10]),
            (r#"{"fault":"stall","from":2,"to":4}"#, &[2, 3, 4]),
            (r#"{"fault":"stall","times":3}"#, &[1, 2, 3]),
            (r#"{"fault":"stall","user":"even","from":3,"times":2}"#, &[4, 6]),
            (r#"{"fault":"stall","action":"QueryFaceGroup"}"#, &[]),
            (r#"{"fault":"stall","chance":0}"#, &[]),
        ];
        for (script, calls) in table {
            assert_eq!(faulty_calls(script), calls, "{script}");
        }
    }

    #[test]
    fn same_seed_gives_the_same_faults() {
        let script = r#"{"fault":"stall","chance":0.5}"#;
        assert_eq!(faulty_calls(script), faulty_calls(script));
        assert!((1..10).contains(&faulty_calls(script).len()));
    }

    #[test]
    fn each_action_has_its_own_count() {
        let script = Script::parse(r#"{"fault":"stall","calls":[2],"action":"QueryFaceRecord"}"#).unwrap();
        let mut player = FaultPlayer::new(script, 0);
        let calls = [Action::QueryFaceRecord, Action::AddFaceRecord, Action::AddFaceRecord, Action::QueryFaceRecord];
        let faults = calls.map(|action| player.next_fault(action, None).is_some());
        assert_eq!(faults, [false, false, false, true]);
    }

    #[test]
    fn first_matching_rule_applies() {
        let script = Script::parse(r#"{"fault":"html","calls":[1]} {"fault":"truncated"}"#).unwrap();
        let mut player = FaultPlayer::new(script, 0);
        assert_eq!(
            player.next_fault(Action::AddFaceRecord, None),
            Some(Fault::Html { executed: false, status: 502, retry_after: None })
        );
        assert_eq!(player.next_fault(Action::AddFaceRecord, None), Some(Fault::Truncated));
    }
}
