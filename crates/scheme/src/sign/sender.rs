//! Signs as a provider does: from the same scheme data that verifies. For `send`, for `dev`'s
//! generated secrets and for tests.

use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    error::SchemeError,
    keys::key::{self, key_bytes},
    locate::{
        piece::{Absent, Values},
        selector::{Inputs, Part, Place, Selector},
        template::Template,
    },
    plan::{catalog::Scheme, compiled::Plan, time::written},
    request::Request,
    sign::{
        draft::{Draft, Signed},
        put::Outgoing,
        replace::replace_type,
        secret::own_keys,
        token::token,
    },
    spec::TimeUnit,
};

/// Signs as the provider does. `secret` is what the provider's page shows, or for public keys the
/// private one: an Ed25519 seed, a PKCS #8 key in PEM or its base64.
///
/// # Errors
///
/// A scheme that can't be run or whose private key only the provider has, a secret that can't be
/// used, a draft that lacks what is signed.
pub fn sign(
    scheme: &Scheme,
    secret: &SecretString,
    draft: &Draft<'_>,
) -> Result<Signed, SchemeError> {
    let plan = scheme.plan().map_err(|mut errors| errors.remove(0))?;
    own_keys(plan)?;
    let timestamp = plan
        .time
        .as_ref()
        .map(|time| written(time.unit, draft.unix_seconds));
    let mut outgoing = unsigned(scheme, plan, draft, timestamp.as_deref());
    let part = &plan.signature.alternatives[0][0];
    let in_document = in_document(plan);
    if !in_document {
        outgoing.wrap(plan.document.as_ref());
    }
    if plan.grammar.jws {
        let token = token(plan, secret, draft, &outgoing)?;
        outgoing.put(
            part,
            &format!(
                "{}{token}",
                plan.grammar.prefix.as_deref().unwrap_or_default()
            ),
        );
        return Ok(Signed {
            headers: outgoing.headers,
            body: outgoing.body,
            url: outgoing.url,
        });
    }
    let leading = leading(plan, draft, timestamp.as_deref());
    let digest = digest(
        plan,
        secret,
        draft,
        &outgoing,
        (timestamp.as_deref(), &leading),
    )?;
    if !outgoing.put(part, &plan.grammar.write(&leading, &digest)) {
        return Err(SchemeError::new(
            "signature.from",
            &format!("this request has no room for {}", part.place),
        ));
    }
    if in_document {
        outgoing.wrap(plan.document.as_ref());
    }
    Ok(Signed {
        headers: outgoing.headers,
        body: outgoing.body,
        url: outgoing.url,
    })
}

/// The request with everything in it except the signature.
fn unsigned(scheme: &Scheme, plan: &Plan, draft: &Draft<'_>, timestamp: Option<&str>) -> Outgoing {
    let content_type = scheme
        .spec
        .content_type
        .as_deref()
        .unwrap_or("application/json");
    let mut headers = draft.headers.to_vec();
    if !headers.iter().any(|(name, _)| name == "content-type") {
        headers.insert(0, ("content-type".to_owned(), content_type.to_owned()));
    }
    let mut outgoing = Outgoing {
        headers,
        body: draft.body.to_vec(),
        url: draft.url.map(str::to_owned),
    };
    if let (Some(selector), Some(event_type)) = (&plan.event_type, draft.event_type)
        && !is_in_body(scheme, selector, draft)
    {
        outgoing.put_in_headers(selector, event_type);
    }
    if let (Some(part), Some(timestamp)) = (time_part(plan), timestamp) {
        outgoing.put(part, timestamp);
    }
    let keys = plan
        .identity
        .key
        .iter()
        .flat_map(|key| key.values(draft.id));
    for (selector, value) in plan
        .coverage
        .id
        .iter()
        .map(|selector| (selector, draft.id))
        .chain(keys)
    {
        outgoing.put_in_headers(selector, value);
    }
    complete(plan, draft, &mut outgoing);
    outgoing
}

/// Whether the body has the type at the place where it is looked for first. A header that only
/// stands in for it is then the provider's own matter, and may have another text.
fn is_in_body(scheme: &Scheme, selector: &Selector, draft: &Draft<'_>) -> bool {
    let first = selector.alternatives[0].first();
    first.is_some_and(|part| matches!(part.place, Place::Body(_)))
        && draft.event_type.is_some_and(|event_type| {
            replace_type(scheme, draft.body, event_type).is_ok_and(|body| body.is_some())
        })
}

/// Whether the signature is in the JSON text, which is put into its form last.
fn in_document(plan: &Plan) -> bool {
    matches!(plan.signature.alternatives[0][0].place, Place::Body(_))
}

fn time_part(plan: &Plan) -> Option<&Part> {
    plan.time.as_ref().map(|time| &time.from.alternatives[0][0])
}

/// Fills in what the content names and the draft lacks: nonces, tokens, further headers. Of several
/// contents the last one is used, which is the plain one.
fn complete(plan: &Plan, draft: &Draft<'_>, outgoing: &mut Outgoing) {
    let selectors = plan
        .coverage
        .contents
        .last()
        .into_iter()
        .flat_map(|content| content.selectors());
    for part in selectors.filter_map(|selector| selector.alternatives[0].first()) {
        let is_time = part.written.contains("time");
        let value = if is_time {
            written(TimeUnit::Rfc3339, draft.unix_seconds)
        } else {
            draft.id.to_owned()
        };
        outgoing.put(part, &value);
    }
    for header in plan
        .coverage
        .contents
        .iter()
        .flat_map(|content| content.lists())
    {
        let names: Vec<&str> = outgoing
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .chain([header])
            .collect();
        outgoing.headers.push((header.to_owned(), names.join(",")));
    }
}

/// What is in the signature's text beside the digest: the time, a nonce.
fn leading<'a>(
    plan: &'a Plan,
    draft: &Draft<'a>,
    timestamp: Option<&'a str>,
) -> Vec<(&'a str, &'a str)> {
    let mut members: Vec<(&str, &str)> = Vec::new();
    if let (
        Some(Part {
            place: Place::Signature(name),
            ..
        }),
        Some(timestamp),
    ) = (time_part(plan), timestamp)
    {
        members.push((name, timestamp));
    }
    for place in plan
        .coverage
        .contents
        .iter()
        .flat_map(Template::selectors)
        .flat_map(Selector::places)
    {
        if let Place::Signature(name) = place
            && !members.iter().any(|(known, _)| known == name)
        {
            members.push((name, draft.id));
        }
    }
    members
}

fn digest(
    plan: &Plan,
    secret: &SecretString,
    draft: &Draft<'_>,
    outgoing: &Outgoing,
    (timestamp, leading): (Option<&str>, &[(&str, &str)]),
) -> Result<Vec<u8>, SchemeError> {
    let key = key_bytes(&plan.steps, secret.expose_secret())
        .map_err(|message| SchemeError::new("secret", &message))?;
    let body = Bytes::copy_from_slice(&outgoing.body);
    let headers = outgoing.header_bytes();
    let request = Request {
        method: draft.method,
        url: outgoing.url.as_deref(),
        query: None,
        headers: &headers,
        body: &body,
    };
    let document = plan.document(&request, None);
    let found = plan
        .before
        .find(if in_document(plan) { &body } else { &document });
    let text = plan.grammar.write(leading, b"");
    let inputs = Inputs {
        request: &request,
        found: found.as_ref(),
        signature: Some((&plan.grammar, &text)),
    };
    let there = plan
        .time
        .as_ref()
        .and_then(|time| time.from.resolve(&inputs).ok().flatten());
    let there = there.map(|(_, value)| String::from_utf8_lossy(&value).into_owned());
    let id = plan
        .coverage
        .id
        .as_ref()
        .and_then(|selector| selector.resolve(&inputs).ok().flatten());
    let id = id.map_or_else(|| draft.id.as_bytes().to_vec(), |(_, id)| id.into_owned());
    let timestamp = there.as_deref().or(timestamp);
    let url_decode = plan.url_decode.as_deref();
    let values = Values {
        timestamp,
        id: Some(&id),
        url_decode,
        ..Values::none(&inputs)
    };
    let mut content = Ok(Vec::new());
    for template in &plan.coverage.contents {
        content = template.resolve(&values);
        if !matches!(content, Err(Absent::Piece(_))) {
            break;
        }
    }
    let content = content.map_err(unsignable)?;
    key::sign(plan.algorithms[0], &key, &content, false)
        .map_err(|message| SchemeError::new("secret", &message))
}

fn unsignable(absent: Absent) -> SchemeError {
    SchemeError::new(
        "content",
        &match absent {
            Absent::Piece(place) => format!("the request has no {place}, which is signed"),
            Absent::Url => "this provider signs the URL: name it".into(),
            Absent::Repeated(name) => format!("{name} stands twice"),
        },
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Catalog;

    #[test]
    fn headers_are_those_the_provider_sends() {
        let catalog = Catalog::new(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:?}"));
        let draft = |event_type| Draft {
            id: "id1",
            headers: &[],
            event_type: Some(event_type),
            unix_seconds: 99,
            body: b"{}",
            url: None,
            method: "POST",
        };
        let names = |provider, event_type| {
            let headers = sign(
                catalog.get(provider).unwrap(),
                &"whsec_AAEC".into(),
                &draft(event_type),
            )
            .unwrap();
            headers.headers.into_iter().collect::<BTreeMap<_, _>>()
        };
        let github = names("github", "pull_request.opened");
        assert_eq!(
            (
                github["x-github-event"].as_str(),
                github["x-github-delivery"].as_str()
            ),
            ("pull_request", "id1")
        );
        assert!(github["x-hub-signature-256"].starts_with("sha256="));
        assert!(names("stripe", "a.b")["stripe-signature"].starts_with("t=99,v1="));
        assert_eq!(names("svix", "a.b")["svix-timestamp"], "99");
        assert_eq!(
            names("shopify", "orders/create")["x-shopify-topic"],
            "orders/create"
        );
        assert_eq!(names("token", "x")["authorization"], "Bearer whsec_AAEC");
    }
}
