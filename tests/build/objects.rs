//! Which C++ files a build compiles again (build/objects.rs).
#![cfg(target_os = "linux")]

#[path = "../../build/objects.rs"]
mod made;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Sources in a folder of their own, written a minute ago.
struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new() -> Self {
        // With a space, which the compiler's list of files leads by a backslash.
        let project = Project { folder: tempfile::Builder::new().prefix("two words").tempdir().unwrap() };
        std::fs::create_dir(project.path("objects")).unwrap();
        for (name, text) in
            [("a.h", "int a();"), ("a.cpp", "#include \"a.h\"\nint a() { return 1; }"), ("b.cpp", "int b;")]
        {
            project.write(name, text);
            project.age(&project.path(name));
        }
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn age(&self, path: &PathBuf) {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    }

    /// Builds, and says which of the two sources were compiled: whose objects are new.
    fn build(&self, flag: &str) -> String {
        self.build_in(flag, "")
    }

    /// The same, in an environment with this value of a variable that no compiler knows.
    fn build_in(&self, flag: &str, value: &str) -> String {
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let mut build = cc::Build::new();
        build.cpp(true).target(&target).host(&target).opt_level(0).debug(false).cargo_metadata(false).flag(flag);
        build.env("OF_NO_COMPILER", value);
        let sources = ["a", "b"].map(|name| self.path(&format!("{name}.cpp")).display().to_string());
        let objects = made::objects(&build, &sources.each_ref().map(String::as_str), &self.path("objects")).unwrap();
        assert_eq!(objects.len(), 2);
        let mut compiled = String::new();
        for name in ["a", "b"] {
            let object =
                objects.iter().find(|object| object.to_string_lossy().ends_with(&format!("{name}.o"))).unwrap();
            let written = std::fs::metadata(object).unwrap().modified().unwrap();
            if written > SystemTime::now() - Duration::from_secs(30) {
                compiled += name;
            }
            self.age(object);
        }
        compiled
    }
}

#[test]
fn only_what_has_changed_is_compiled_again() {
    let project = Project::new();
    assert_eq!(project.build("-DX=1"), "ab");
    assert_eq!(project.build("-DX=1"), "");
    assert_eq!(project.build_in("-DX=1", "another"), "", "what cargo tells its programs is no part of the command");
    project.write("b.cpp", "int b = 2;");
    assert_eq!(project.build("-DX=1"), "b");
    project.write("a.h", "int a(); extern int more;");
    assert_eq!(project.build("-DX=1"), "a", "the header that it includes has changed");
    assert_eq!(project.build("-DX=2"), "ab", "the command is another");
    std::fs::remove_file(project.path("a.h")).unwrap();
    project.write("a.cpp", "int a() { return 1; }");
    assert_eq!(project.build("-DX=2"), "a", "the header is gone");
}
