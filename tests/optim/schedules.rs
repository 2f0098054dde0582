//! Learning rates over the steps: `torch.optim.lr_scheduler` of PyTorch 2.13.0.

use tch_svgd::optim::{Cosine, MultiStep, OneCycle, Plateau, Schedule, StepDecay, WarmUp};

#[track_caller]
fn assert_factors(schedule: &impl Schedule, expected: &[f64]) {
    for (step, expected) in expected.iter().enumerate() {
        let got = schedule.factor(step as u64);
        assert!((got - expected).abs() < 1e-12, "step {step}: {got} {expected}");
    }
}

#[test]
fn they_are_those_of_torch() {
    let thirds = [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125];
    assert_factors(&StepDecay { every: 3, gamma: 0.5 }, &thirds);
    assert_factors(&MultiStep { at: vec![2, 5], gamma: 0.1 }, &[1.0, 1.0, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01]);
    let cosine = [1.0, 0.9397114317029974, 0.775, 0.55, 0.3250000000000002, 0.1602885682970026, 0.1];
    assert_factors(&Cosine { steps: 6, end: 0.1 }, &cosine);
    #[rustfmt::skip]
    let cycle = [
        0.040000000000000036, 0.52, 1.0, 0.9504846320134737, 0.8117456539497631, 0.6112620219362893, 0.38874197806371075,
        0.18825834605023697, 0.049519367986526286, 4e-06,
    ];
    assert_factors(&OneCycle::new(10), &cycle);
    let straight = WarmUp { steps: 4, from: 0.25, then: Cosine { steps: 2, end: 1.0 } };
    assert_factors(&straight, &[0.25, 0.4375, 0.625, 0.8125, 1.0, 1.0]);
}

#[test]
fn a_plateau_is_that_of_torch() {
    let mut plateau = Plateau::new(0.1, 2).unwrap();
    let losses = [1.0, 0.5, 0.5, 0.6, 0.5, 0.49, 0.49, 0.49, 0.49, 0.49];
    let expected = [1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01];
    for (loss, expected) in losses.into_iter().zip(expected) {
        assert!((plateau.observe(loss) - expected).abs() < 1e-12, "{plateau:?}");
    }
    let mut first_is_none = Plateau::new(0.5, 1).unwrap();
    assert_eq!([f64::NAN, f64::INFINITY, 1.0].map(|loss| first_is_none.observe(loss)), [1.0, 0.5, 0.5]);
    assert!(Plateau::new(1.0, 2).is_err());
}

#[test]
fn steps_behind_the_end_have_the_last_factor() {
    assert_eq!(Cosine { steps: 0, end: 0.5 }.factor(0), 0.5);
    assert_eq!(Cosine { steps: 4, end: 0.5 }.factor(100), 0.5);
    assert!((OneCycle::new(10).factor(100) - 4e-6).abs() < 1e-12);
    assert_eq!(StepDecay { every: 0, gamma: 0.5 }.factor(100), 1.0);
    assert!(OneCycle::new(1).factor(0).is_finite());
}
