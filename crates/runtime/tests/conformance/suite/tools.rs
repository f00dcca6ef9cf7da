//! Installed tools.

use boatyard_model::ToolId;
use boatyard_runtime::{Error, tool_folder};

use super::{Place, Suite, assert_error};

pub async fn are_kept_and_appear_everywhere(suite: &Suite) {
    let (early, in_early) = Place::started(suite).await;
    let (builder, inside) = Place::started(suite).await;
    let install = "mkdir /work/bin && printf '#!/bin/sh\\necho hello\\n' > /work/bin/hello && \
                   chmod 755 /work/bin/hello && head -c 100000 /dev/urandom > /work/data";
    inside.sh(install).await.ok();
    let tool = ToolId::new();
    assert_error!(suite.runtime.keep_tool(builder.id, tool).await, Error::Running(_));
    builder.kill().await;
    suite.runtime.keep_tool(builder.id, tool).await.unwrap();
    suite.runtime.keep_tool(builder.id, tool).await.unwrap_err();
    builder.remove().await;

    let (late, in_late) = Place::started(suite).await;
    let folder = tool_folder(tool);
    for inside in [&in_early, &in_late] {
        assert_eq!(inside.run(&[&format!("{folder}/bin/hello")]).await.ok(), "hello\n");
        let touched = inside.sh(&format!("touch {folder}/x 2>/dev/null || echo refused")).await;
        assert_eq!(touched.ok(), "refused\n");
    }
    assert!(suite.runtime.list_tools().await.unwrap().contains(&tool));
    let usage = suite.runtime.tool_usage(tool).await.unwrap();
    assert!(usage.bytes >= 100_000 && usage.inodes == 3, "{usage:?}");
    // It belongs to no workspace.
    let own = suite.runtime.disk_usage(late.id).await.unwrap();
    assert!(own.bytes < 100_000, "{own:?}");

    suite.runtime.remove_tool(tool).await.unwrap();
    suite.runtime.remove_tool(tool).await.unwrap();
    assert!(!suite.runtime.list_tools().await.unwrap().contains(&tool));
    suite.runtime.tool_usage(tool).await.unwrap_err();
    assert_eq!(in_late.sh(&format!("test -e {folder} || echo gone")).await.ok(), "gone\n");
    for place in [early, late] {
        place.remove().await;
    }
}
