//! A client of `hookonce mcp serve`: the binary as an agent's program starts it, and JSON-RPC by the
//! line, so that a test sees what is on the wire.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::app::*;

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revision {
    /// 2025-11-25: a handshake, then bare requests.
    Handshake,
    /// 2026-07-28: no handshake, each request says who asks.
    PerRequest,
}

pub struct Mcp {
    process: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    revision: Revision,
    pub last_id: u64,
    /// What the server said beside answers.
    pub notified: Vec<Value>,
}

impl Mcp {
    /// The server before anything was said.
    pub async fn bare(app: &TestApp, token: &str, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookonce"));
        command
            .args(["mcp", "serve"])
            .args(more)
            .env_clear()
            .env("HOOKONCE_URL", &app.admin)
            .env("HOOKONCE_TOKEN", token)
            .env("HOOKONCE_DATA_DIR", "/nonexistent")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        let mut process = command.spawn().expect("the server");
        let output = process.stdout.take().expect("an output");
        Self {
            input: process.stdin.take(),
            lines: BufReader::new(output).lines(),
            process,
            revision: Revision::Handshake,
            last_id: 0,
            notified: Vec::new(),
        }
    }

    pub async fn start(app: &TestApp, token: &str, more: &[&str], revision: Revision) -> Self {
        let mut mcp = Self::bare(app, token, more).await;
        if revision == Revision::Handshake {
            let hello = json!({
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": { "name": "test", "version": "1" },
            });
            let answer = mcp.ask("initialize", hello).await;
            assert_eq!(
                answer["result"]["protocolVersion"], "2025-11-25",
                "{answer}"
            );
            mcp.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
                .await;
        }
        mcp.revision = revision;
        mcp
    }

    pub async fn send(&mut self, message: &Value) {
        self.line(&message.to_string()).await;
    }

    pub async fn line(&mut self, line: &str) {
        let input = self.input.as_mut().expect("an input");
        input
            .write_all(format!("{line}\n").as_bytes())
            .await
            .expect("written");
        input.flush().await.expect("flushed");
    }

    pub async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(LONG, self.lines.next_line())
            .await
            .expect("a line in time")
            .expect("a line")
            .expect("the server ended");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"))
    }

    /// Sends a request and says its id.
    pub async fn begin(&mut self, method: &str, mut params: Value) -> u64 {
        self.last_id += 1;
        if self.revision == Revision::PerRequest {
            params["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2026-07-28".into();
            params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
            params["_meta"]["io.modelcontextprotocol/clientInfo"] =
                json!({ "name": "test", "version": "1" });
        }
        let id = self.last_id;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
            .await;
        id
    }

    /// The answer to this request is no longer wanted.
    pub async fn give_up(&mut self, id: u64) {
        let params = json!({ "requestId": id });
        let method = "notifications/cancelled";
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }))
            .await;
    }

    /// The answer to a request; what comes before it is kept.
    pub async fn answer(&mut self, id: u64) -> Value {
        loop {
            let message = self.next().await;
            if message["id"] == id {
                return message;
            }
            self.notified.push(message);
        }
    }

    pub async fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params).await;
        self.answer(id).await
    }

    pub async fn tools(&mut self) -> Vec<Value> {
        let answer = self.ask("tools/list", json!({})).await;
        let tools = answer["result"]["tools"].as_array();
        tools.unwrap_or_else(|| panic!("{answer}")).clone()
    }

    pub async fn tool_names(&mut self) -> Vec<String> {
        let tools = self.tools().await;
        let name = |tool: &Value| tool["name"].as_str().expect("a name").to_owned();
        tools.iter().map(name).collect()
    }

    /// What a tool answered; its text is the same JSON.
    pub async fn tool(&mut self, name: &str, arguments: Value) -> Value {
        let result = self.result(name, arguments).await;
        assert_eq!(result["isError"], false, "{name}: {result}");
        let text = result["content"][0]["text"].as_str().expect("a text");
        let of_text: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(of_text, result["structuredContent"], "{name}");
        of_text
    }

    /// Why a tool did not do what was asked.
    pub async fn refused(&mut self, name: &str, arguments: Value) -> String {
        let result = self.result(name, arguments).await;
        assert_eq!(result["isError"], true, "{name}: {result}");
        let error = &result["structuredContent"]["error"];
        error
            .as_str()
            .unwrap_or_else(|| panic!("{result}"))
            .to_owned()
    }

    async fn result(&mut self, name: &str, arguments: Value) -> Value {
        let params = json!({ "name": name, "arguments": arguments });
        let mut answer = self.ask("tools/call", params).await;
        let result = answer["result"].take();
        assert!(result.is_object(), "{name}: {answer}");
        let is_named = result["resultType"] == "complete";
        assert_eq!(is_named, self.revision == Revision::PerRequest, "{result}");
        result
    }

    /// Closes the server's input and waits for its end.
    pub async fn end(mut self) -> std::process::ExitStatus {
        drop(self.input.take());
        tokio::time::timeout(LONG, self.process.wait())
            .await
            .expect("the server ends")
            .expect("a status")
    }
}

/// A token of this scope.
pub async fn token(app: &TestApp, scope: &str) -> String {
    let asked = json!({ "scopes": [scope] });
    let said = app.api(reqwest::Method::POST, "/tokens", Some(asked)).await;
    let answer = said.json();
    answer["token"].as_str().expect("a token").to_owned()
}
