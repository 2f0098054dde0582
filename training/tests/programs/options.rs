//! The command line: what is refused, and what is said of it.

use crate::common::*;
use crate::programs::*;

#[test]
fn bad_options_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, part) in [
        (&["--optimizer", "sgdd"][..], "expected one of sgd, momentum,"),
        (&["--lr", "-1"], "expected a number above 0"),
        (&["--scale", "nan"], "expected a finite number >= 0"),
        (&["--steps", "0"], "expected a whole number above 0"),
        (&["--steps", "5", "--epochs", "5"], "cannot be used with"),
        (&["--steps", "5", "--paper"], "cannot be used with"),
        (&["--budget", "0.5"], "--paper"),
        (&["--paper", "--budget", "0"], "expected a number in (0, 1]"),
        (&["--paper", "--budget", "1.5"], "expected a number in (0, 1]"),
        (&["--seeds", "3..3"], "expected at least one seed"),
        (&["--seeds", "1,1"], "each once"),
        (&["--seeds", "one"], "got 'one'"),
        (&["--seeds", "0..99999999999"], "at most"),
        (&["--optimizer", "sgd,svgd,sgd"], "got sgd twice"),
        (&["--lr", "1e39"], "expected a number above 0"),
        (&["--lr", "1e-50"], "expected a number above 0"),
        (&["--lr", "sgd=0.1,lion=0.1"], "expected one of sgd, "),
        (&["--lr", "sgd=0.1,sgd=0.2"], "expected one rate for sgd, got two"),
        (&["--lr", "adam=0.1"], "the --optimizer list, which has no adam"),
        (&["--steps", "1.5"], "expected a whole number above 0"),
        (&["--epochs", "1000000000000000000"], "expected a whole number above 0"),
        (&["--steps", "5", "--budget", "0.5"], "cannot be used with"),
        (&["--max-time", "soon"], "expected a time such as 90s"),
        (&["--name", "../x"], "expected letters"),
        (&["--threads", "3000"], "on this machine"),
        (&["--threads", "4294967296"], "--threads"),
        (&["--loss-scale", "0"], "expected a number above 0"),
        (&["--resume", "--overwrite"], "cannot be used with"),
        (&["--batch-size", "0"], "--batch-size"),
        (&["--validation", "1"], "expected a number in [0, 1)"),
        (&["--validation", "0.00001", "--data", "digits"], "some of the 1437 training images, got 0"),
        (&["--batch-size", "1438", "--data", "digits"], "expected at most the 1437 training images"),
        (&["--warmup", "5", "--steps", "5", "--data", "digits"], "expected fewer steps than the 5 of the run"),
        (&["--scale", "0.5", "--optimizer", "sgd,adam"], "that has it in the --optimizer list: svgd, "),
        (&["--patience", "3"], "hold some out with --validation"),
        (&["--momentum", "0.5", "--optimizer", "sgd,adam"], "that has it in the --optimizer list: momentum, nesterov"),
        (&["--betas", "0.9,0.999", "--optimizer", "sgd"], "adam, amsgrad, adamw"),
        (&["--betas", "0.9", "--optimizer", "adam"], "expected two numbers in [0, 1)"),
        (&["--label-smoothing", "-0.1"], "expected a number in [0, 1)"),
        (&["--clip-norm", "0"], "expected a number above 0"),
        (&["--warmup", "-1"], "expected a whole number above 0"),
        (&["--paper", "--schedule", "cosine"], "cannot be used with"),
        (&["--schedule", "linear"], "constant, cosine"),
        (&["--device", "gpu"], "expected auto, cpu, cuda or cuda:N"),
        (&["--device", "cuda:99", "--data", "digits"], "libtorch sees"),
    ] {
        let output = resnet(folder.path(), arguments).output().unwrap();
        let text = stderr(&output);
        assert!(text.contains(part), "{arguments:?}: '{part}' is not in: {text}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert_eq!(text.matches("error: ").count(), 1, "one is enough: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}

/// A sentence for each mistake, whatever is set for those who debug.
#[test]
fn an_error_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in ["--data nowhere", "--paper", "--data digits --optimizer tso-alra-switch"] {
        let text = run_refused(mlp(folder.path(), &words(arguments)).env("RUST_BACKTRACE", "1"));
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with("error: "), "{text}");
    }
}

#[test]
fn numbers_and_names_are_taken_as_people_write_them() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        stdout(&run(&mut mlp(folder.path(), &words("--data digits --steps 1e1 --optimizer SGD --eval-every 5"))));
    assert!(text.contains("sgd-seed0: step 10/10"), "{text}");
}

#[test]
fn help_tells_what_is_trained_and_what_else_there_is() {
    let folder = tempfile::tempdir().unwrap();
    for (program, parts) in [
        ("mlp_mnist", &["MLP on MNIST", "6000 steps of 32", "svgd 0.01", "svgd-per-example"][..]),
        ("bng_sentences", &["convolution over words on Rotten Tomatoes", "22200 steps of 64"]),
        ("tso_alra", &["small AlexNet on CIFAR-10", "--data-set"]),
    ] {
        let text = stdout(&run(&mut training(program, folder.path(), &["--help"])));
        for part in parts.iter().chain(&["CIFAR10_MD5", "OMP_WAIT_POLICY", "SIGUSR1", "Exit status", "Examples:"]) {
            assert!(text.contains(part), "'{part}' is not in: {text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 125), "{text}");
    }
}
