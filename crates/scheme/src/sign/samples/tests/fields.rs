//! What handlers usually read is there.

use serde_json::Value;

use super::*;

/// Provider, sample, and where the values are.
const FIELDS: &[(&str, &str, &[&str])] = &[
    (
        "stripe",
        "invoice.paid",
        &[
            "/data/object/id",
            "/data/object/customer",
            "/data/object/subscription",
            "/data/object/lines/data/0/price/id",
            "/created",
        ],
    ),
    (
        "stripe",
        "checkout.session.completed",
        &[
            "/data/object/customer_details/email",
            "/data/object/metadata/order",
            "/data/object/payment_status",
        ],
    ),
    (
        "github",
        "pull_request.opened",
        &[
            "/repository/full_name",
            "/sender/login",
            "/pull_request/head/sha",
            "/pull_request/base/ref",
            "/number",
        ],
    ),
    (
        "github",
        "push",
        &[
            "/repository/full_name",
            "/ref",
            "/commits/0/id",
            "/head_commit/message",
            "/pusher/name",
        ],
    ),
    (
        "gitlab",
        "Push Hook",
        &[
            "/object_kind",
            "/project/path_with_namespace",
            "/checkout_sha",
            "/commits/0/author/name",
        ],
    ),
    (
        "gitlab",
        "Merge Request Hook",
        &[
            "/object_kind",
            "/object_attributes/action",
            "/object_attributes/iid",
            "/user/username",
        ],
    ),
    (
        "slack",
        "app_mention",
        &[
            "/event/text",
            "/event/user",
            "/event/channel",
            "/team_id",
            "/authorizations/0/user_id",
        ],
    ),
    (
        "slack",
        "block_actions",
        &[
            "/payload/actions/0/action_id",
            "/payload/response_url",
            "/payload/trigger_id",
        ],
    ),
    (
        "shopify",
        "orders/create",
        &[
            "/id",
            "/line_items/0/sku",
            "/customer/email",
            "/total_price",
            "/currency",
            "/shipping_address/zip",
            "/admin_graphql_api_id",
        ],
    ),
    (
        "twilio",
        "message.received",
        &["/From", "/To", "/Body", "/MessageSid", "/NumMedia"],
    ),
    (
        "sendgrid",
        "bounce",
        &["/0/email", "/0/sg_message_id", "/0/reason"],
    ),
    (
        "discord",
        "interaction",
        &["/data/name", "/token", "/member/user/id", "/guild_id"],
    ),
    (
        "telegram",
        "message",
        &["/message/chat/id", "/message/from/id", "/message/text"],
    ),
    (
        "linear",
        "Issue.update",
        &[
            "/data/identifier",
            "/data/state/name",
            "/updatedFrom/stateId",
            "/webhookTimestamp",
            "/actor/name",
        ],
    ),
    (
        "jira",
        "jira:issue_updated",
        &[
            "/issue/key",
            "/issue/fields/status/name",
            "/changelog/items/0/toString",
            "/user/accountId",
        ],
    ),
    (
        "bitbucket",
        "repo:push",
        &[
            "/push/changes/0/new/target/hash",
            "/repository/full_name",
            "/actor/nickname",
        ],
    ),
    (
        "zoom",
        "recording.completed",
        &[
            "/payload/object/recording_files/0/download_url",
            "/download_token",
            "/payload/account_id",
        ],
    ),
    (
        "hubspot-v3",
        "contact.propertyChange",
        &["/0/objectId", "/0/propertyName", "/0/portalId"],
    ),
    (
        "intercom",
        "conversation.user.created",
        &["/data/item/id", "/data/item/source/body", "/app_id"],
    ),
    (
        "mailgun",
        "delivered",
        &[
            "/event-data/message/headers/message-id",
            "/event-data/recipient",
            "/signature/token",
        ],
    ),
    ("postmark", "Bounce", &["/Email", "/Type", "/MessageID"]),
    (
        "square",
        "payment.updated",
        &[
            "/merchant_id",
            "/data/object/payment/amount_money/amount",
            "/data/object/payment/status",
        ],
    ),
    (
        "clerk",
        "user.created",
        &[
            "/data/id",
            "/data/email_addresses/0/email_address",
            "/data/primary_email_address_id",
        ],
    ),
    (
        "zendesk",
        "zen:event-type:ticket.created",
        &["/detail/id", "/detail/subject", "/account_id", "/time"],
    ),
    (
        "meta",
        "whatsapp_business_account.messages",
        &[
            "/entry/0/changes/0/value/messages/0/text/body",
            "/entry/0/changes/0/value/metadata/phone_number_id",
        ],
    ),
    (
        "calendly",
        "invitee.created",
        &[
            "/payload/email",
            "/payload/scheduled_event/start_time",
            "/payload/uri",
        ],
    ),
    (
        "typeform",
        "form_response",
        &[
            "/form_response/answers/0/field/ref",
            "/form_response/form_id",
            "/form_response/token",
        ],
    ),
    (
        "notion",
        "page.content_updated",
        &["/entity/id", "/data/parent/id", "/authors/0/id"],
    ),
    (
        "sentry",
        "issue.created",
        &["/data/issue/id", "/data/issue/title", "/installation/uuid"],
    ),
    (
        "pagerduty",
        "incident.triggered",
        &[
            "/event/data/id",
            "/event/data/service/summary",
            "/event/data/urgency",
        ],
    ),
    (
        "woocommerce",
        "order.created",
        &[
            "/id",
            "/billing/email",
            "/line_items/0/product_id",
            "/total",
        ],
    ),
    (
        "paddle-billing",
        "subscription.created",
        &[
            "/data/customer_id",
            "/data/items/0/price/id",
            "/data/custom_data/account",
        ],
    ),
    (
        "docusign",
        "envelope-completed",
        &["/data/envelopeId", "/data/envelopeSummary/status"],
    ),
    (
        "lemonsqueezy",
        "order_created",
        &[
            "/data/attributes/user_email",
            "/meta/custom_data/account",
            "/data/attributes/total",
        ],
    ),
    (
        "razorpay",
        "payment.captured",
        &[
            "/payload/payment/entity/id",
            "/payload/payment/entity/amount",
        ],
    ),
    (
        "resend",
        "email.bounced",
        &["/data/email_id", "/data/bounce/type"],
    ),
    (
        "vercel",
        "deployment.succeeded",
        &["/payload/deployment/url", "/payload/project/id"],
    ),
];

#[test]
fn the_fields_that_handlers_read_are_there() {
    for (provider, name, pointers) in FIELDS.iter().copied() {
        let body = read(&made(provider, name));
        for pointer in pointers {
            let value = body.pointer(pointer);
            assert!(
                value.is_some_and(|value| !value.is_null()),
                "{provider} {name}: {pointer}"
            );
        }
    }
    let livemode = &read(&made("stripe", "payout.paid"))["livemode"];
    assert_eq!(livemode, &Value::Bool(false));
    let header = |made: &Made, name: &str| {
        let found = made.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    let linear = made("linear", "Comment.create");
    assert_eq!(header(&linear, "linear-event").as_deref(), Some("Comment"));
    let woo = made("woocommerce", "order.updated");
    assert_eq!(
        header(&woo, "x-wc-webhook-event").as_deref(),
        Some("updated")
    );
}
