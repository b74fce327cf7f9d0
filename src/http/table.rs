//! The table of routes. One entry mounts a route, names its scope and describes it: the types of
//! its handler give parameters, body and answers.

use std::collections::BTreeMap;

use actix_web::{
    FromRequest, Handler, Responder, Route,
    body::BoxBody,
    dev::ServiceRequest,
    http::Method,
    middleware::{Next, from_fn},
    web,
};

use super::{
    answer::Answers,
    auth,
    route::{headers, json_config, no_such_method, no_such_path, with_errors},
    sketch::{Input, Sketch},
    tokens::Need,
};

/// A route.
pub struct Entry {
    pub method: Method,
    /// The path below its face's prefix.
    pub path: &'static str,
    /// The scope that a call needs.
    pub need: Need,
    pub summary: &'static str,
    /// Statuses of problems beside those that any call may get.
    pub problems: &'static [u16],
    pub describe: fn(&mut Sketch<'_>),
    route: Route,
}

impl Entry {
    fn new<H, I>(
        method: Method,
        (path, need): (&'static str, Need),
        handler: H,
        summary: &'static str,
    ) -> Self
    where
        H: Handler<I>,
        I: FromRequest + Input + 'static,
        H::Output: Responder + Answers + 'static,
    {
        let route = web::method(method.clone()).to(handler);
        let describe = |sketch: &mut Sketch<'_>| {
            I::describe(sketch);
            H::Output::describe(sketch);
        };
        Self {
            method,
            path,
            need,
            summary,
            problems: &[],
            describe,
            route,
        }
    }

    /// Adds the problems that only this route has.
    pub fn or(self, problems: &'static [u16]) -> Self {
        Self { problems, ..self }
    }
}

pub fn get<H, I>(path: &'static str, need: Need, handler: H, summary: &'static str) -> Entry
where
    H: Handler<I>,
    I: FromRequest + Input + 'static,
    H::Output: Responder + Answers + 'static,
{
    Entry::new(Method::GET, (path, need), handler, summary)
}

pub fn post<H, I>(path: &'static str, need: Need, handler: H, summary: &'static str) -> Entry
where
    H: Handler<I>,
    I: FromRequest + Input + 'static,
    H::Output: Responder + Answers + 'static,
{
    Entry::new(Method::POST, (path, need), handler, summary)
}

/// The routes below one prefix.
pub struct Face {
    pub prefix: &'static str,
    /// The tag of these routes in the description.
    pub tag: &'static str,
    /// The scopes that a call needs, to read and to change, before it is told that there is no such
    /// route.
    pub strangers: (Need, Need),
    pub entries: Vec<Entry>,
}

impl Face {
    /// Adds the routes, each behind its scope. Bodies have at most `body_bytes_max` bytes. With
    /// `own_host`, the Host header has to be a name of this machine.
    pub fn mount(self, config: &mut web::ServiceConfig, body_bytes_max: usize, own_host: bool) {
        let strangers = self.strangers;
        let mut by_path: BTreeMap<&str, Vec<Entry>> = BTreeMap::new();
        for entry in self.entries {
            by_path.entry(entry.path).or_default().push(entry);
        }
        let mut scope = with_errors(web::scope(self.prefix)).app_data(json_config(body_bytes_max));
        for (path, entries) in by_path {
            let is_admins = entries.iter().all(|entry| entry.need == Need::Admin);
            let refusal = web::to(no_such_method);
            let needs = if is_admins {
                (Need::Admin, Need::Admin)
            } else {
                strangers
            };
            let mut resource =
                web::resource(path).default_service(guarded(refusal, needs, own_host));
            for Entry { need, route, .. } in entries {
                resource = resource.route(guarded(route, (need, need), own_host));
            }
            scope = scope.service(resource);
        }
        let scope = scope.default_service(guarded(web::to(no_such_path), strangers, own_host));
        config.service(scope.wrap(headers()));
    }
}

/// The route behind the scopes that reading and changing need.
pub fn guarded(route: Route, (reading, changing): (Need, Need), own_host: bool) -> Route {
    route.wrap(from_fn(
        move |request: ServiceRequest, next: Next<BoxBody>| {
            let reads = matches!(*request.method(), Method::GET | Method::HEAD);
            auth::guard(
                request,
                next,
                if reads { reading } else { changing },
                own_host,
            )
        },
    ))
}
