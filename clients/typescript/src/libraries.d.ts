// The adapters' libraries are optional, and none of their types are needed: they are only looked for.
declare module "@langchain/core/tools";
declare module "ai";
declare module "express";
declare module "fastify";
declare module "hono";
declare module "next/server.js";
