// The same, as CommonJS.
import hookonce = require("hookonce");
import ai = require("hookonce/ai");
import express = require("hookonce/express");
import fastify = require("hookonce/fastify");
import hono = require("hookonce/hono");
import langchain = require("hookonce/langchain");
import next = require("hookonce/next");

const ledger = new hookonce.Ledger();
const handler = new hookonce.Handler(ledger, { secrets: [] });
export const handlers = [express, fastify, hono, next].map(({ webhook }) => webhook(handler, () => null));
export const tools = [ai.once({ charge: { execute: () => 1 } }, { run: ledger.run("r") }), langchain.contextOf];
export const result: Promise<number> = ledger.run("r").execute("s", () => 1);
