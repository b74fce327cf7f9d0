//! Sample payloads for `hookonce send`: of our own making, in the shape that each provider's events
//! have. Nothing is signed here.

use serde_json::{Value, json};

use hookonce_scheme::{Scheme, SchemeError, sample_body};

/// A type and a body for it; `id` goes where the provider has its event's id. The default type is
/// the first that is known of the provider.
pub fn sample(
    scheme: &Scheme,
    event_type: Option<&str>,
    id: &str,
) -> Result<(String, Vec<u8>), SchemeError> {
    let event_type = event_type
        .or(scheme.spec.events.first().map(String::as_str))
        .unwrap_or("example.created");
    let body = match scheme.name.as_str() {
        "stripe" => stripe(event_type, id),
        "github" => github(event_type),
        "slack" => slack(event_type, id),
        "shopify" => shopify(event_type),
        "standard-webhooks" | "svix" | "hmac" | "token" => json!({
            "id": id, "type": event_type, "timestamp": "2026-03-01T09:30:00Z",
            "data": {"id": "obj_5f2c81", "name": "Northwind sample", "amount": 4200, "currency": "eur"}
        }),
        _ => return Ok((event_type.to_owned(), sample_body(scheme, event_type, id)?)),
    };
    Ok((event_type.to_owned(), body.to_string().into_bytes()))
}

fn stripe(event_type: &str, id: &str) -> Value {
    let customer = "cus_Rk3vXw81LpQz";
    let address = json!({"city": "Utrecht", "country": "NL", "line1": "Oudegracht 12", "line2": null, "postal_code": "3511 AB", "state": null});
    let object = match event_type.split('.').next().unwrap_or_default() {
        "invoice" => {
            let paid = event_type == "invoice.paid";
            json!({
                "id": "in_1Rb2kQ9mTzSample", "object": "invoice", "customer": customer, "customer_email": "jules@northwind.example",
                "currency": "eur", "amount_due": 4900, "amount_paid": if paid { 4900 } else { 0 }, "amount_remaining": if paid { 0 } else { 4900 },
                "attempt_count": 1, "billing_reason": "subscription_cycle", "collection_method": "charge_automatically", "created": 1_767_225_600,
                "number": "NW-2026-0042", "status": if paid { "paid" } else { "open" }, "subscription": "sub_1Rb2kPSample", "total": 4900,
                "lines": {"object": "list", "has_more": false, "data": [{"id": "il_1Rb2kQSample", "object": "line_item", "amount": 4900,
                    "description": "1 × Team plan (at €49.00 / month)", "quantity": 1}]},
                "metadata": {}
            })
        }
        "charge" => {
            let refunded = event_type == "charge.refunded";
            json!({
                "id": "ch_3Rb2kZSample", "object": "charge", "amount": 2000, "amount_captured": 2000, "amount_refunded": if refunded { 2000 } else { 0 },
                "captured": true, "created": 1_767_225_600, "currency": "usd", "customer": customer, "paid": true, "refunded": refunded,
                "payment_intent": "pi_3Rb2kZSample", "status": "succeeded",
                "billing_details": {"address": address, "email": "jules@northwind.example", "name": "Jules Verhoeven", "phone": null},
                "payment_method_details": {"type": "card", "card": {"brand": "visa", "last4": "4242", "exp_month": 8, "exp_year": 2029, "country": "US"}},
                "metadata": {"order": "6735"}
            })
        }
        "payment_intent" => json!({
            "id": "pi_3Rb2kZSample", "object": "payment_intent", "amount": 2000, "amount_received": 2000, "capture_method": "automatic",
            "created": 1_767_225_600, "currency": "usd", "customer": customer, "latest_charge": "ch_3Rb2kZSample", "status": "succeeded",
            "payment_method_types": ["card"], "metadata": {"order": "6735"}
        }),
        "checkout" => json!({
            "id": "cs_test_a1Sample", "object": "checkout.session", "amount_subtotal": 2000, "amount_total": 2420, "created": 1_767_225_600,
            "currency": "eur", "customer": customer, "mode": "payment", "payment_intent": "pi_3Rb2kZSample", "payment_status": "paid",
            "status": "complete", "success_url": "https://shop.northwind.example/thanks", "metadata": {"cart": "7781"},
            "customer_details": {"address": address, "email": "jules@northwind.example", "name": "Jules Verhoeven"}
        }),
        "customer" if event_type.starts_with("customer.subscription") => json!({
            "id": "sub_1Rb2kPSample", "object": "subscription", "customer": customer, "created": 1_764_547_200, "currency": "eur",
            "cancel_at_period_end": false, "status": if event_type.ends_with("deleted") { "canceled" } else { "active" },
            "items": {"object": "list", "has_more": false, "data": [{"id": "si_RkSample", "object": "subscription_item", "quantity": 3,
                "price": {"id": "price_1Rb2Sample", "object": "price", "currency": "eur", "unit_amount": 4900, "recurring": {"interval": "month"}}}]},
            "metadata": {}
        }),
        _ => json!({
            "id": customer, "object": "customer", "created": 1_767_225_600, "currency": "eur", "email": "jules@northwind.example",
            "name": "Jules Verhoeven", "address": address, "balance": 0, "delinquent": false, "metadata": {}
        }),
    };
    json!({
        "id": id, "object": "event", "api_version": "2025-09-30.clover", "created": 1_767_225_602, "data": {"object": object},
        "livemode": false, "pending_webhooks": 1, "request": {"id": "req_8sTq2nSample", "idempotency_key": null}, "type": event_type
    })
}

fn github(event_type: &str) -> Value {
    let (event, action) = event_type
        .split_once('.')
        .map_or((event_type, None), |(event, action)| (event, Some(action)));
    let user = |login: &str, id: u32| {
        json!({"login": login, "id": id, "type": "User", "site_admin": false, "html_url": format!("https://github.com/{login}"),
               "url": format!("https://api.github.com/users/{login}")})
    };
    let sender = user("mira-okafor", 9_081_726);
    let repository = json!({
        "id": 730_214_985, "name": "ledger", "full_name": "northwind-labs/ledger", "private": false, "owner": user("northwind-labs", 8_120_034),
        "html_url": "https://github.com/northwind-labs/ledger", "default_branch": "main", "description": "Books that balance", "fork": false,
        "created_at": "2025-02-11T08:04:17Z", "pushed_at": "2026-03-01T09:30:00Z", "stargazers_count": 418, "open_issues_count": 7
    });
    let issue = json!({
        "id": 2_405_113_870_u32, "number": 212, "title": "Rounding differs between the invoice and its PDF", "state": "open", "user": sender,
        "body": "The PDF shows €10.01, the invoice €10.00.", "labels": [{"id": 5, "name": "bug", "color": "d73a4a"}], "comments": 1,
        "html_url": "https://github.com/northwind-labs/ledger/issues/212", "created_at": "2026-03-01T09:12:44Z"
    });
    let mut body = json!({"repository": repository, "sender": sender});
    if let Some(action) = action {
        body["action"] = json!(action);
    }
    match event {
        "push" => push(&mut body),
        "ping" => {
            body["zen"] = json!("Send it twice, do it once.");
            body["hook_id"] = json!(512_667_091);
            body["hook"] = json!({"type": "Repository", "id": 512_667_091, "name": "web", "active": true, "events": ["push"],
                "config": {"content_type": "json", "insecure_ssl": "0", "url": "https://hooks.northwind.example/hooks/github"}});
        }
        "pull_request" => {
            let closed = action == Some("closed");
            body["number"] = json!(213);
            body["pull_request"] = json!({
                "id": 1_934_470_215, "number": 213, "state": if closed { "closed" } else { "open" }, "merged": closed, "draft": false,
                "title": "Round half to even", "body": "Fixes #212.", "user": sender, "commits": 1, "additions": 14, "deletions": 3, "changed_files": 1,
                "head": {"ref": "rounding", "sha": "4f6a1c0d9be37852aa01cc7e5d2f9b86310477ed"},
                "base": {"ref": "main", "sha": "b1d7e02c5a8f4693d0127bb9e84c6fa35590de18"},
                "html_url": "https://github.com/northwind-labs/ledger/pull/213", "created_at": "2026-03-01T09:30:00Z"
            });
        }
        "issues" => body["issue"] = issue,
        "issue_comment" => {
            body["comment"] = json!({"id": 2_690_441_073_u32, "user": sender, "body": "It is the half cent: banker's rounding in one place only.",
                "html_url": "https://github.com/northwind-labs/ledger/issues/212#issuecomment-2690441073", "created_at": "2026-03-01T09:30:00Z"});
            body["issue"] = issue;
        }
        "release" => {
            body["release"] = json!({"id": 203_118_447, "tag_name": "v2.4.0", "name": "2.4.0", "draft": false, "prerelease": false, "author": sender,
                "target_commitish": "main", "published_at": "2026-03-01T09:30:00Z", "html_url": "https://github.com/northwind-labs/ledger/releases/tag/v2.4.0"});
        }
        "workflow_run" => {
            body["workflow_run"] = json!({"id": 13_604_928_551_u64, "name": "tests", "run_number": 871, "event": "push", "status": "completed",
                "conclusion": "success", "head_branch": "main", "head_sha": "4f6a1c0d9be37852aa01cc7e5d2f9b86310477ed"});
        }
        _ => {}
    }
    body
}

fn push(body: &mut Value) {
    let author = json!({"name": "Mira Okafor", "email": "mira@northwind.example", "username": "mira-okafor"});
    let commit = json!({
        "id": "4f6a1c0d9be37852aa01cc7e5d2f9b86310477ed", "message": "Round half to even", "timestamp": "2026-03-01T10:29:51+01:00",
        "author": author, "committer": author, "added": [], "removed": [], "modified": ["src/money.rs"], "distinct": true,
        "url": "https://github.com/northwind-labs/ledger/commit/4f6a1c0d9be37852aa01cc7e5d2f9b86310477ed"
    });
    body["ref"] = json!("refs/heads/main");
    body["before"] = json!("b1d7e02c5a8f4693d0127bb9e84c6fa35590de18");
    body["after"] = commit["id"].clone();
    body["pusher"] = json!({"name": "mira-okafor", "email": "mira@northwind.example"});
    body["created"] = json!(false);
    body["deleted"] = json!(false);
    body["forced"] = json!(false);
    body["commits"] = json!([commit]);
    body["head_commit"] = commit;
}

fn slack(event_type: &str, id: &str) -> Value {
    if event_type == "url_verification" {
        return json!({"token": "sample", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P", "type": event_type});
    }
    let event = match event_type {
        "reaction_added" => {
            json!({"type": event_type, "user": "U08MIRA42", "reaction": "tada", "item_user": "U08JULES7", "event_ts": "1772357400.000200",
            "item": {"type": "message", "channel": "C08BILLING", "ts": "1772357388.000100"}})
        }
        _ => {
            json!({"type": event_type, "user": "U08MIRA42", "text": "<@U08HOOK99> is the March invoice out?", "channel": "C08BILLING",
            "channel_type": "channel", "ts": "1772357400.000200", "event_ts": "1772357400.000200"})
        }
    };
    json!({
        "token": "sample", "team_id": "T08NORTH1", "api_app_id": "A08HOOK99", "event": event, "type": "event_callback", "event_id": id,
        "event_time": 1_772_357_400, "authorizations": [{"team_id": "T08NORTH1", "user_id": "U08HOOK99", "is_bot": true}]
    })
}

fn shopify(topic: &str) -> Value {
    match topic.split('/').next().unwrap_or_default() {
        "orders" => json!({
            "id": 6_120_447_385_712_u64, "name": "#1042", "order_number": 1042, "email": "jules@northwind.example", "currency": "EUR",
            "total_price": "48.40", "subtotal_price": "40.00", "total_tax": "8.40", "created_at": "2026-03-01T10:30:00+01:00",
            "financial_status": if topic == "orders/paid" { "paid" } else { "pending" }, "fulfillment_status": null,
            "line_items": [{"id": 15_200_331_870_u64, "title": "Enamel mug", "quantity": 2, "price": "20.00", "sku": "MUG-EN-01"}],
            "customer": {"id": 8_017_552_934_u64, "first_name": "Jules", "last_name": "Verhoeven"}
        }),
        "products" => {
            json!({"id": 9_204_417_763_u64, "title": "Enamel mug", "vendor": "Northwind", "status": "active", "handle": "enamel-mug",
            "variants": [{"id": 47_110_225_601_u64, "price": "20.00", "sku": "MUG-EN-01", "inventory_quantity": 37}]})
        }
        "customers" => {
            json!({"id": 8_017_552_934_u64, "email": "jules@northwind.example", "first_name": "Jules", "last_name": "Verhoeven",
            "orders_count": 0, "state": "enabled", "created_at": "2026-03-01T10:30:00+01:00"})
        }
        _ => {
            json!({"id": 71_220_983, "name": "Northwind", "domain": "northwind.example", "myshopify_domain": "northwind-sample.myshopify.com"})
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use rand::{SeedableRng as _, rngs::StdRng};
    use secrecy::SecretString;

    use super::*;
    use crate::settings::{Dedup, scheme::SourceSpec};
    use hookonce_scheme::{
        Catalog, Draft, Rejection, Request, VerifiedRequest, Verifier, generate_secret, sign,
    };

    /// The sample as its provider would send it, and as the verifier takes it.
    fn sent(
        verifier: &Verifier,
        secret: &SecretString,
        event_type: &str,
        body: &[u8],
    ) -> Result<VerifiedRequest, Rejection> {
        let draft = Draft {
            id: "evt_9",
            headers: &[],
            event_type: Some(event_type),
            unix_seconds: 9,
            body,
            url: Some("https://x.example/"),
            method: "POST",
        };
        let signed = sign(verifier.scheme(), secret, &draft).unwrap();
        let headers: Vec<(&str, &[u8])> = signed
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let request = Request {
            method: "POST",
            url: signed.url.as_deref(),
            query: None,
            headers: &headers,
            body: &Bytes::from(signed.body),
        };
        verifier.verify(&request, 9000)
    }

    #[test]
    fn every_sample_comes_out_under_its_own_type_and_id() {
        let catalog = Catalog::new(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:?}"));
        let mut rng = StdRng::seed_from_u64(5);
        for scheme in catalog.iter() {
            // No secret can be made for RSA.
            let Ok(secret) = generate_secret(scheme, &mut rng) else {
                continue;
            };
            let source = SourceSpec {
                provider: scheme.name.clone(),
                ..SourceSpec::default()
            };
            let verifier = Verifier::new(&catalog, &source, std::slice::from_ref(&secret))
                .unwrap_or_else(|errors| panic!("{errors:?}"));
            let events = scheme
                .spec
                .events
                .iter()
                .map(|event| Some(event.as_str()))
                .chain([None]);
            for wanted in events {
                let (event_type, body) = sample(scheme, wanted, "evt_9").unwrap();
                let verified = sent(&verifier, &secret, &event_type, &body)
                    .unwrap_or_else(|rejection| panic!("{}: {rejection:?}", scheme.name));
                if scheme.spec.event_type.is_some() && event_type != "url_verification" {
                    assert_eq!(
                        verified.event_type(),
                        Some(event_type.as_str()),
                        "{}",
                        scheme.name
                    );
                }
                // Some keys begin with a time or with the body's digest.
                let key = verified.event_key().unwrap_or_default();
                let begins_with_id = scheme
                    .spec
                    .key
                    .as_ref()
                    .is_some_and(|key| key.as_slice()[0].contains("id"));
                if begins_with_id
                    && verified.dedup() == Dedup::Key
                    && event_type != "url_verification"
                {
                    assert!(
                        key.starts_with("evt_9"),
                        "{} {event_type}: {key}",
                        scheme.name
                    );
                }
            }
        }
    }
}
