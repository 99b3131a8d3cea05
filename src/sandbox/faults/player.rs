//! Plays a script: counts the calls and says what goes wrong with this one.

use super::{Action, Fault, Script, When};

#[derive(Debug)]
pub(in crate::sandbox) struct FaultPlayer {
    script: Script,
    /// How often each rule has been played.
    played: Vec<u64>,
    /// How many calls each action has had.
    calls: [u64; Action::ALL.len()],
    random: fastrand::Rng,
}

impl FaultPlayer {
    pub(in crate::sandbox) fn new(script: Script, seed: u64) -> Self {
        let played = vec![0; script.0.len()];
        Self { script, played, calls: [0; Action::ALL.len()], random: fastrand::Rng::with_seed(seed) }
    }

    /// What goes wrong with the next call of this action: the first rule that matches.
    pub(in crate::sandbox) fn next(&mut self, action: Action, user: Option<&str>) -> Option<Fault> {
        let calls = &mut self.calls[action as usize];
        *calls += 1;
        for (rule, played) in self.script.0.iter().zip(&mut self.played) {
            let is_spent = rule.times.is_some_and(|times| *played >= times);
            if rule.action == action && !is_spent && rule.when.holds(*calls, user, &mut self.random) {
                *played += 1;
                return Some(rule.fault.clone());
            }
        }
        None
    }
}

impl When {
    fn holds(&self, call: u64, user: Option<&str>, random: &mut fastrand::Rng) -> bool {
        self.calls.as_ref().is_none_or(|calls| calls.contains(&call))
            && self.from.is_none_or(|from| call >= from)
            && self.to.is_none_or(|to| call <= to)
            && self.user.as_ref().is_none_or(|wanted| user == Some(wanted))
            // Drawn last: a rule for other calls must not use up the seed.
            && self.chance.is_none_or(|chance| random.f64() < chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The calls, of the first ten, for which the script has a fault.
    fn faulty(script: &str) -> Vec<u64> {
        let mut player = FaultPlayer::new(Script::parse(script).unwrap(), 7);
        (1..=10)
            .filter(|k| player.next(Action::AddFaceRecord, Some(if k % 2 == 0 { "even" } else { "odd" })).is_some())
            .collect()
    }

    #[test]
    fn conditions_choose_the_calls() {
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
            assert_eq!(faulty(script), calls, "{script}");
        }
    }

    #[test]
    fn chance_is_the_same_for_the_same_seed() {
        let script = r#"{"fault":"stall","chance":0.5}"#;
        assert_eq!(faulty(script), faulty(script));
        assert!((1..10).contains(&faulty(script).len()));
    }

    #[test]
    fn each_action_has_its_own_count() {
        let script = Script::parse(r#"{"fault":"stall","calls":[2],"action":"QueryFaceRecord"}"#).unwrap();
        let mut player = FaultPlayer::new(script, 0);
        let calls = [Action::QueryFaceRecord, Action::AddFaceRecord, Action::AddFaceRecord, Action::QueryFaceRecord];
        let faults = calls.map(|action| player.next(action, None).is_some());
        assert_eq!(faults, [false, false, false, true]);
    }

    #[test]
    fn first_rule_that_matches_is_played() {
        let script = Script::parse(r#"{"fault":"html","calls":[1]} {"fault":"truncated"}"#).unwrap();
        let mut player = FaultPlayer::new(script, 0);
        assert_eq!(
            player.next(Action::AddFaceRecord, None),
            Some(Fault::Html { executed: false, status: 502, retry_after: None })
        );
        assert_eq!(player.next(Action::AddFaceRecord, None), Some(Fault::Truncated));
    }
}
