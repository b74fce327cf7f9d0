//! The server as the SDK sees it: which tools there are for this token, and one call.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, Implementation, JsonObject,
        ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig,
    },
    service::RequestContext,
};
use serde_json::{Value, json};

use super::{
    session::{Reporter, Session},
    tools::{self, Kind, Tool},
    untrusted::{self, NOTE, visible},
};
use crate::cli::{Exit, Failure};

const INSTRUCTIONS: &str = "Tools to operate hookonce, a webhook inbox: it verifies webhooks, records each once and relays it to handlers until they take it. ";

/// How long a call waits for room among those that run.
const ROOM_WITHIN: Duration = Duration::from_secs(1);

pub struct Server {
    session: Arc<Session>,
    tools: Vec<Tool>,
}

impl Server {
    pub fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            tools: tools::all(),
        }
    }

    /// Runs a tool to its end, or until the caller gives up.
    async fn called(
        &self,
        tool: &Tool,
        given: JsonObject,
        context: &RequestContext<RoleServer>,
    ) -> anyhow::Result<Value> {
        if matches!(tool.kind, Kind::Writes { .. }) && !self.session.allow_write {
            return Err(anyhow!(
                "this server is read-only: a person has to start it with --allow-write, and with a token that may operate"
            ));
        }
        let _running = tokio::time::timeout(ROOM_WITHIN, self.session.calls.acquire())
            .await
            .map_err(|_| anyhow!("too many calls at once: wait for one to end"))??;
        let reporter = Reporter {
            peer: context.peer.clone(),
            token: context.meta.get_progress_token(),
        };
        tokio::select! {
            answer = (tool.call)(self.session.clone(), given, reporter) => answer,
            () = context.ct.cancelled() => Err(anyhow!("the call was given up")),
        }
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let named = Implementation::new("hookonce", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(named)
            .with_instructions([INSTRUCTIONS, NOTE].concat())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let may_operate = self.session.may_operate().await;
        let offered = |tool: &&Tool| match tool.kind {
            Kind::Reads => true,
            Kind::Counts => may_operate,
            Kind::Writes { .. } => may_operate && self.session.allow_write,
        };
        let tools = self.tools.iter().filter(offered);
        Ok(ListToolsResult::with_all_items(
            tools.map(|tool| tool.described.clone()).collect(),
        ))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let tool = self.tools.iter().find(|tool| tool.name == request.name);
        let tool = tool.ok_or_else(|| {
            ErrorData::invalid_params(format!("there is no tool {:?}", request.name), None)
        })?;
        let given = request.arguments.unwrap_or_default();
        let result = match self.called(tool, given, &context).await {
            Ok(value) => shown(value),
            Err(error) => {
                if !is_an_answer(&error) {
                    self.session.forget();
                }
                refused(&error)
            }
        };
        Ok(result.into())
    }
}

/// The result as JSON, and the same JSON as text for clients that know no structured results.
fn shown(value: Value) -> CallToolResult {
    let mut members = match value {
        Value::Object(members) => untrusted::marked(members),
        _ => JsonObject::new(),
    };
    members.insert("note".to_owned(), NOTE.into());
    CallToolResult::structured(Value::Object(members))
}

/// A failure that the model can read.
fn refused(error: &anyhow::Error) -> CallToolResult {
    CallToolResult::structured_error(json!({ "error": visible(&format!("{error:#}")) }))
}

/// Whether the service is well and said so: the arguments were wrong, or there is no such thing.
fn is_an_answer(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Failure>()
        .is_some_and(|failure| matches!(failure.exit, Exit::Usage | Exit::NotFound))
}
