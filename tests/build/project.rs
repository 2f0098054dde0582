//! A copy of the scripts in a project of its own, with a home of its own and stubs for the programs that they call.

use crate::programs::*;
use crate::versions::*;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Project {
    folder: tempfile::TempDir,
    name: &'static str,
}

impl Project {
    pub fn new() -> Self {
        Self::named("")
    }

    /// In a folder of this name.
    pub fn named(name: &'static str) -> Self {
        // Resolved: some systems' folder for temporary files is a link.
        let folder = tempfile::tempdir_in(std::env::temp_dir().canonicalize().unwrap()).unwrap();
        let project = Project { folder, name };
        for folder in ["project/scripts", "project/build", "bin", "home"] {
            std::fs::create_dir_all(project.path(folder)).unwrap();
        }
        for file in [
            "scripts/doctor",
            "scripts/libtorch",
            "scripts/nvcc",
            "scripts/wheels.sh",
            "scripts/versions.sh",
            "build/versions.txt",
        ] {
            std::fs::copy(root().join(file), project.path("project").join(file)).unwrap();
        }
        // The ordinary tools that the scripts may use, and no others.
        for tool in [
            "bash", "sync", "env", "uname", "dirname", "mkdir", "mktemp", "rm", "mv", "ln", "ls", "chmod", "sleep",
            "grep", "cat",
        ] {
            project.link(tool);
        }
        project
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(self.name).join(name)
    }

    pub fn link(&self, tool: &str) {
        let found =
            ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(tool)).into_iter().find(|path| path.exists());
        let found = found.unwrap_or_else(|| panic!("no {tool} on this machine"));
        std::os::unix::fs::symlink(found, self.path("bin").join(tool)).unwrap();
    }

    pub fn stub(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        // The name may be a link of `new`: writing through it would overwrite the machine's own program.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{}: {error}", path.display()),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&path).unwrap();
        file.write_all(format!("#!/usr/bin/env bash\n{text}\n").as_bytes()).unwrap();
    }

    /// One of the scripts, with nothing in its environment.
    pub fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.path("project/scripts").join(name));
        command.env_clear().env("PATH", self.path("bin")).env("HOME", self.path("home"));
        command
    }

    pub fn libtorch(&self) -> PathBuf {
        self.path("project/.libtorch")
    }

    /// Cargo.lock, as far as the scripts read it.
    pub fn lock(&self, tch: &str) {
        let text = format!(
            "version = 4\n\n[[package]]\nname = \"tar\"\nversion = \"0.4.44\"\n\n[[package]]\nname = \"tch\"\nversion = \
             \"{tch}\"\n\n[[package]]\nname = \"torch-sys\"\nversion = \"0.1.0\"\n"
        );
        std::fs::write(self.path("project/Cargo.lock"), text).unwrap();
    }

    /// A libtorch as far as scripts/libtorch looks at one, or a folder without, and its path.
    pub fn installed(&self, name: &str, version: Option<&str>) -> PathBuf {
        let folder = self.path(name);
        let headers = folder.join("include/torch/headeronly");
        std::fs::create_dir_all(&headers).unwrap();
        if let Some(version) = version {
            let numbers: Vec<_> = version.split('.').collect();
            let text = format!(
                "#pragma once\n\n#define TORCH_VERSION_MAJOR {}\n#define TORCH_VERSION_MINOR {}\n\
                 #define TORCH_VERSION_PATCH {}\n",
                numbers[0], numbers[1], numbers[2]
            );
            std::fs::write(headers.join("version.h"), text).unwrap();
        }
        folder
    }
}

/// The Python that runs beneath the stubs, whatever their PATH is.
pub fn python() -> String {
    stdout(&run(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]))).trim().to_owned()
}

/// The newest pair and the oldest.
pub fn ends() -> [Pair; 2] {
    let pairs = known_pairs();
    [pairs[0], pairs[pairs.len() - 1]]
}
