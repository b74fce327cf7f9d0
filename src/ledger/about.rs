//! What the caller of a gateway asked for. It is kept with the claim, for whoever looks into a call
//! whose outcome is not known.

use serde::{Deserialize, Serialize};

use crate::contract::{GatewayRequest, Time};

/// A request as it is kept: without its query, which may have secrets, and without credentials.
#[derive(Serialize, Deserialize)]
pub struct About {
    pub caller: Option<String>,
    pub method: String,
    pub path: String,
}

impl About {
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts, which JSON has")
    }
}

/// The request of a gateway's step. `about` is what was kept; None for other steps.
pub fn request_of(about: Option<&str>, claimed_at: Time) -> Option<GatewayRequest> {
    let About {
        caller,
        method,
        path,
    } = serde_json::from_str(about?).ok()?;
    Some(GatewayRequest {
        caller,
        method,
        path,
        sent_at: claimed_at,
    })
}
