//! Patches.

use hothouse_domain::ErrorCode;
use hothouse_sandbox::Sandbox;

use super::{Case, code, content, ok};
use crate::cases;

pub(crate) fn group() -> Vec<Case> {
    cases![
        a_patch_changes_makes_and_removes_files,
        a_patch_that_does_not_fit_changes_nothing,
        leading_components_are_taken_off,
        a_patch_does_not_lead_out,
        what_is_no_patch_is_refused,
    ]
}

const PATCH: &str = "\
--- a/one.txt
+++ b/one.txt
@@ -1,3 +1,3 @@
 first
-second
+SECOND
 third
--- /dev/null
+++ b/new/made.txt
@@ -0,0 +1,2 @@
+made
+here
--- a/gone.txt
+++ /dev/null
@@ -1 +0,0 @@
-bye
";

async fn files(s: &Sandbox) {
    ok(s, "printf 'first\\nsecond\\nthird\\n' > one.txt; echo bye > gone.txt; chmod 755 one.txt").await;
}

async fn a_patch_changes_makes_and_removes_files(s: Sandbox) {
    files(&s).await;
    let changed = s.patch("/workspace", 1, content(PATCH.as_bytes(), 10)).await.unwrap();
    assert_eq!(changed.count, 3, "{changed:?}");
    assert_eq!(
        ok(&s, "cat one.txt new/made.txt; ls; stat -c %a one.txt").await,
        "first\nSECOND\nthird\nmade\nhere\nnew\none.txt\n755\n"
    );
}

async fn a_patch_that_does_not_fit_changes_nothing(s: Sandbox) {
    files(&s).await;
    ok(&s, "echo changed > gone.txt").await;
    let refused = s.patch("/workspace", 1, content(PATCH.as_bytes(), 1000)).await;
    assert_eq!(code(refused), ErrorCode::PatchRejected);
    assert_eq!(
        ok(&s, "cat one.txt gone.txt; ls").await,
        "first\nsecond\nthird\nchanged\ngone.txt\none.txt\n"
    );
}

async fn leading_components_are_taken_off(s: Sandbox) {
    files(&s).await;
    let patch = "--- x/y/one.txt\n+++ x/y/one.txt\n@@ -1 +1 @@\n-first\n+FIRST\n";
    ok(&s, "echo first > one.txt").await;
    s.patch("/workspace", 2, content(patch.as_bytes(), 1000)).await.unwrap();
    assert_eq!(ok(&s, "cat one.txt").await, "FIRST\n");
}

async fn a_patch_does_not_lead_out(s: Sandbox) {
    ok(&s, "mkdir in; echo secret > outside").await;
    for name in ["../outside", "/workspace/outside", "a/../../outside"] {
        let patch = format!("--- {name}\n+++ {name}\n@@ -1 +1 @@\n-secret\n+changed\n");
        assert!(s.patch("/workspace/in", 0, content(patch.as_bytes(), 1000)).await.is_err(), "{name}");
    }
    assert_eq!(ok(&s, "cat outside").await, "secret\n");
}

async fn what_is_no_patch_is_refused(s: Sandbox) {
    let refused = s.patch("/workspace", 0, content(b"no patch\n", 1000)).await;
    assert!(matches!(code(refused), ErrorCode::InvalidRequest | ErrorCode::PatchRejected));
}
