//! The ledger's commands, against a process.

use serde_json::json;

use crate::{app::*, process::Place};

fn address(place: &Place) -> String {
    let text = std::fs::read_to_string(place.folder.path().join("data/admin.address"))
        .expect("the address");
    format!("http://{}", text.trim())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_are_listed_shown_and_resolved_and_tokens_managed_by_command() {
    let place =
        Place::new("[ingress]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"127.0.0.1:0\"\n").await;
    let served = place.serve().await;
    let token = place.json(&["tokens", "create", "--scope", "ledger"]).await;
    let id = token["id"].as_str().expect("an id");
    let secret = token["token"].as_str().expect("a token");
    assert_eq!(
        place
            .run(&["events", "list", "--token", secret])
            .await
            .status
            .code(),
        Some(1)
    );
    let http = client();
    let claim = http
        .post(format!(
            "{}/v1/runs/order%2F1/steps/charge/claim",
            address(&place)
        ))
        .bearer_auth(secret);
    let claimed = claim
        .json(&json!({ "claim_id": "a", "lease_ms": 1 }))
        .send()
        .await
        .expect("an answer");
    assert_eq!(claimed.status().as_u16(), 201);
    let unknown = async {
        while place
            .json(&["ledger", "list", "--status", "unknown"])
            .await
            .as_array()
            .map(Vec::len)
            != Some(1)
        {}
    };
    tokio::time::timeout(LONG, unknown)
        .await
        .expect("the lease's end");
    assert!(place.text(&["ledger", "list"]).await.contains("charge"));
    assert_eq!(
        place
            .run(&["ledger", "show", "order/1", "refund"])
            .await
            .status
            .code(),
        Some(3)
    );
    let resolve = [
        "ledger",
        "resolve",
        "order/1",
        "charge",
        "--outcome",
        "done",
        "--result",
        "{\"id\":7}",
        "--evidence",
        "seen in the bank's list",
    ];
    assert!(place.text(&resolve).await.contains("is done"));
    let shown = place.json(&["ledger", "show", "order/1", "charge"]).await;
    assert_eq!(
        (&shown["status"], &shown["result"], &shown["evidence"]),
        (
            &json!("done"),
            &json!({ "id": 7 }),
            &json!("seen in the bank's list")
        )
    );
    assert!(
        place
            .text(&["ledger", "show", "order/1", "charge"])
            .await
            .contains("bank")
    );
    assert!(!place.text(&["tokens", "list"]).await.contains(secret));
    place.text(&["tokens", "revoke", id]).await;
    assert_eq!(
        place
            .run(&["ledger", "show", "order/1", "--token", secret])
            .await
            .status
            .code(),
        Some(1)
    );
    served.signal("TERM");
    assert!(served.ended().await.success());
}
