//! What the tests of the programs share.

use crate::programs::*;
use std::path::Path;
use std::process::Command;

/// A training program in a folder of its own, with a network that leads nowhere.
pub fn training(program: &str, folder: &Path, arguments: &[&str]) -> Command {
    // A program keeps to it where its caller ignores a signal, as `nohup` and a shell in the background do: here nobody does.
    let mut command = Command::new(binary(program));
    if cfg!(target_os = "linux") {
        command = Command::new("env");
        command.arg("--default-signal=HUP,INT").arg(binary(program));
    }
    command.current_dir(folder).args(arguments).env_remove("RUST_BACKTRACE");
    command.env("CIFAR10_URL", "http://127.0.0.1:1/cifar.tar.gz").env("MNIST_URL", "http://127.0.0.1:1/mnist");
    for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(proxy).env_remove(proxy.to_lowercase());
    }
    command
}

pub fn resnet(folder: &Path, arguments: &[&str]) -> Command {
    training("resnet20_cifar10", folder, arguments)
}

pub fn mlp(folder: &Path, arguments: &[&str]) -> Command {
    training("mlp_mnist", folder, arguments)
}

pub fn tso_alra(folder: &Path, arguments: &[&str]) -> Command {
    training("tso_alra", folder, arguments)
}

/// The rows of a curve.csv.
pub fn rows(csv: &str) -> Vec<Vec<f64>> {
    csv.lines().skip(1).map(|line| line.split(',').map(|cell| cell.parse().unwrap()).collect()).collect()
}

/// The columns of a curve but for the seconds, which no two runs share.
pub fn curve(run: &Path) -> Vec<Vec<f64>> {
    rows(&read(run.join("curve.csv"))).into_iter().map(|row| row[..5].to_vec()).collect()
}

/// The run.json of a run.
pub fn record(run: &Path) -> serde_json::Value {
    serde_json::from_str(&read(run.join("run.json"))).unwrap()
}
