//! Where replays go, what a dry run counts, and which requests are accepted.

use super::*;

fn settings() -> Settings {
    let overlay = r#"
        [sources.s]
        provider = "stripe"
        secret = "whsec_x"
        [destinations.a]
        url = "http://127.0.0.1:1/"
        [destinations.b]
        url = "http://127.0.0.1:2/"
        [[routes]]
        source = "s"
        types = ["invoice.*"]
        destination = "a"
        [[routes]]
        source = "s"
        destination = "b"
    "#;
    // A missing file would be an error, and an empty one keeps a developer's own settings out.
    let file = tempfile::NamedTempFile::new().unwrap();
    let inputs = crate::settings::Inputs {
        file: Some(file.path().into()),
        environment: Vec::new(),
        overlay: Some(overlay.into()),
    };
    crate::settings::load(&inputs).unwrap().settings
}

fn names(request: &Request, event_type: &str, ended_at: &[&str]) -> Vec<String> {
    let ended_at: Vec<String> = ended_at.iter().map(ToString::to_string).collect();
    destinations(&settings(), request, "s", Some(event_type), &ended_at)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn events_go_where_the_routes_send_them_now() {
    let any = Request::default();
    assert_eq!(names(&any, "invoice.paid", &[]), ["a", "b"]);
    assert_eq!(names(&any, "charge.failed", &[]), ["b"]);
    let dead = Request {
        status: Some(ReplayStatus::Dead),
        ..Request::default()
    };
    assert_eq!(names(&dead, "invoice.paid", &["b", "gone"]), ["b"]);
    let to = Request {
        to: Some("http://x.example/".into()),
        status: Some(ReplayStatus::Dead),
        ..Request::default()
    };
    assert_eq!(names(&to, "invoice.paid", &["gone"]), ["http://x.example/"]);
}

#[test]
fn a_url_is_kept_in_one_form() {
    assert_eq!(
        target("HTTPS://Shop.Example:443/a b#c").unwrap(),
        "https://shop.example/a%20b#c"
    );
    assert_eq!(target("http://0x7f.1/").unwrap(), "http://127.0.0.1/");
    for refused in [
        "nowhere",
        "ftp://x.example/",
        "http://",
        "https://user:pass@x.example/",
        "https://user@x.example/",
    ] {
        assert!(target(refused).is_err(), "{refused}");
    }
    let longest = format!("https://x.example/{}", "a".repeat(URL_BYTES_MAX - 18));
    assert_eq!(target(&longest).unwrap(), longest);
    assert!(target(&format!("{longest}a")).unwrap_err().contains("2048"));
}

#[test]
fn a_dry_run_counts_by_destination() {
    let group = |event_type: &str, events| Group {
        source: "s".into(),
        event_type: Some(event_type.into()),
        ended_at: Vec::new(),
        events,
    };
    let other = Group {
        source: "unrouted".into(),
        event_type: None,
        ended_at: Vec::new(),
        events: 4,
    };
    let answer = counted(
        &settings(),
        &Request::default(),
        &[group("invoice.paid", 2), group("charge.failed", 3), other],
    );
    assert_eq!(
        json!(answer),
        json!({
            "dry_run": true, "events": 9, "unrouted": 4, "deliveries": 7,
            "destinations": [{ "destination": "a", "deliveries": 2 }, { "destination": "b", "deliveries": 5 }]
        })
    );
}

#[test]
fn bounds_leave_out_what_comes_later_but_not_an_id_given_by_name() {
    let id = id_floor(5_000);
    let (after, before) = Request::default().bounds(1_000).unwrap();
    assert_eq!((after, before), (Uuid::nil(), id_floor(1_001)));
    let named = Request {
        ids: Some(vec![id]),
        ..Request::default()
    };
    let (after, before) = named.bounds(1_000).unwrap();
    assert!(after < id && id < before);
    let since = Request {
        since: Some("1970-01-01T00:00:01Z".into()),
        ..Request::default()
    };
    assert!(since.bounds(9_000).unwrap().0 < id_floor(1_000));
}

#[test]
fn what_is_asked_for_survives_being_kept() {
    let asked: Request =
        serde_json::from_value(json!({ "source": "s", "type": "invoice.*", "status": "dead", "limit": 5, "dry_run": true })).unwrap();
    let kept = json!(asked);
    assert_eq!(
        kept,
        json!({ "source": "s", "type": "invoice.*", "status": "dead", "limit": 5 })
    );
    assert!(serde_json::from_value::<Request>(kept).is_ok());
    assert!(serde_json::from_value::<Request>(json!({ "sorce": "s" })).is_err());
}
