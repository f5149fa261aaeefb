//! Which function a request's method, host and path lead to: a small trie over path segments for each host.
//!
//! The routes for the very host are looked at first, then those for the hosts above it, the longest name first, then those
//! for all hosts.
//!
//! At every segment a literal wins over a parameter and a parameter over the rest of the path; where the better
//! branch has no route for the method, the next one is tried. At the end of the path the method's own route wins
//! over one for all methods, and `HEAD` falls back to `GET`. The path is taken as it came: nothing is decoded.

use std::collections::HashMap;

use alula_model::{FunctionRef, Host, Name, Qualifier, Route, Segment};

/// The function that a route leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMatch {
    /// The function; always its latest version.
    pub target: FunctionRef,
    /// The values of the route's parameters in the route's order, as they stand in the path: not percent-decoded.
    pub parameters: Vec<(String, String)>,
}

/// A route that could not be had because another function has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) route: Route,
    pub(crate) namespace: Name,
    pub(crate) name: Name,
    /// Who has it.
    pub(crate) owner_namespace: Name,
    pub(crate) owner: Name,
}

impl Taken {
    /// The same clash with the roles exchanged: the function that has the route is the one to be told.
    pub(crate) fn seen_from_the_owner(self) -> Self {
        Self {
            route: self.route,
            namespace: self.owner_namespace,
            name: self.owner,
            owner_namespace: self.namespace,
            owner: self.name,
        }
    }
}

/// All routes of all latest versions.
#[derive(Debug, Clone, Default)]
pub(crate) struct RouteTable {
    /// Routes for all hosts.
    root: Node,
    /// Routes for one host, by its name.
    hosts: HashMap<String, Node>,
    /// Routes for the hosts below one, by its name.
    below: HashMap<String, Node>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    literals: HashMap<String, Node>,
    parameter: Option<Box<Node>>,
    /// Routes that end with the rest of the path here.
    rest: Leaf,
    /// Routes that end here.
    here: Leaf,
}

/// The routes of one path pattern; few, since there is at most one a method.
#[derive(Debug, Clone, Default)]
struct Leaf(Vec<Target>);

#[derive(Debug, Clone)]
struct Target {
    method: Option<String>,
    namespace: Name,
    name: Name,
    parameters: Vec<String>,
}

impl RouteTable {
    /// Adds a route of a function, unless another one has the same pattern and method.
    pub(crate) fn insert(&mut self, route: &Route, namespace: &Name, name: &Name) -> Result<(), Taken> {
        let mut node = match route.host() {
            None => &mut self.root,
            Some(Host::Is(host)) => self.hosts.entry(host.clone()).or_default(),
            Some(Host::Below(host)) => self.below.entry(host.clone()).or_default(),
        };
        let mut parameters = Vec::new();
        let mut is_rest = false;
        for segment in route.segments() {
            match segment {
                Segment::Literal(text) => node = node.literals.entry(text.clone()).or_default(),
                Segment::Parameter(parameter) => {
                    parameters.push(parameter.clone());
                    node = node.parameter.get_or_insert_default();
                }
                Segment::Rest(parameter) => {
                    parameters.push(parameter.clone());
                    is_rest = true;
                }
            }
        }
        let leaf = if is_rest { &mut node.rest } else { &mut node.here };
        let method = route.method().map(str::to_owned);
        if let Some(owner) = leaf.0.iter().find(|target| target.method == method) {
            return Err(Taken {
                route: route.clone(),
                namespace: namespace.clone(),
                name: name.clone(),
                owner_namespace: owner.namespace.clone(),
                owner: owner.name.clone(),
            });
        }
        leaf.0.push(Target { method, namespace: namespace.clone(), name: name.clone(), parameters });
        Ok(())
    }

    /// The best route for a request; `host` as it was sent.
    pub(crate) fn find(&self, method: &str, host: Option<&str>, path: &str) -> Option<RouteMatch> {
        let path = path.strip_prefix('/')?;
        let mut values = Vec::new();
        let target = self.trees(host).into_iter().find_map(|tree| {
            values.clear();
            tree.find(method, Some(path), &mut values)
        })?;
        let parameters = target.parameters.iter().cloned().zip(values.into_iter().map(str::to_owned));
        Some(RouteMatch {
            target: FunctionRef {
                namespace: target.namespace.clone(),
                name: target.name.clone(),
                qualifier: Qualifier::Latest,
            },
            parameters: parameters.collect(),
        })
    }
}

impl RouteTable {
    /// The trees that a request for `host` is looked up in, the most particular first.
    fn trees(&self, host: Option<&str>) -> Vec<&Node> {
        let mut trees = Vec::new();
        let has_hosts = !self.hosts.is_empty() || !self.below.is_empty();
        if let Some(host) = host.filter(|_| has_hosts).map(host_name) {
            trees.extend(self.hosts.get(&host));
            let above = host.match_indices('.').filter_map(|(at, _)| host.get(at + 1..));
            trees.extend(above.filter_map(|above| self.below.get(above)));
        }
        trees.push(&self.root);
        trees
    }
}

/// The name in a `Host` header: in lower case, without port and final dot.
fn host_name(sent: &str) -> String {
    let name = match sent.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => sent,
    };
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl Node {
    /// Looks for the rest of a path, `None` at its end. Every node is visited at most once a request, since only
    /// one position of the path leads to it.
    fn find<'t, 'p>(
        &'t self,
        method: &str,
        path: Option<&'p str>,
        values: &mut Vec<&'p str>,
    ) -> Option<&'t Target> {
        let Some(path) = path else { return self.here.target(method) };
        let (segment, after) = match path.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (path, None),
        };
        let literal = self.literals.get(segment);
        if let Some(found) = literal.and_then(|node| node.find(method, after, values)) {
            return Some(found);
        }
        if let Some(node) = self.parameter.as_ref().filter(|_| !segment.is_empty()) {
            values.push(segment);
            if let Some(found) = node.find(method, after, values) {
                return Some(found);
            }
            values.pop();
        }
        let found = self.rest.target(method)?;
        values.push(path);
        Some(found)
    }
}

impl Leaf {
    fn target(&self, method: &str) -> Option<&Target> {
        let of = |wanted: Option<&str>| self.0.iter().find(|target| target.method.as_deref() == wanted);
        let head = || if method == "HEAD" { of(Some("GET")) } else { None };
        of(Some(method)).or_else(head).or_else(|| of(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(routes: &[(&str, &str)]) -> RouteTable {
        let mut table = RouteTable::default();
        for (route, function) in routes {
            let route = Route::parse(route).unwrap();
            table.insert(&route, &Name::default_namespace(), &Name::new(function).unwrap()).unwrap();
        }
        table
    }

    fn check(table: &RouteTable, method: &str, path: &str, expect: Option<(&str, &[(&str, &str)])>) {
        let found = table.find(method, Some("localhost:8080"), path);
        let found = found.as_ref().map(|m| {
            let parameters: Vec<_> = m.parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            (m.target.name.as_str(), parameters)
        });
        assert_eq!(found, expect.map(|(name, parameters)| (name, parameters.to_vec())), "{method} {path}");
    }

    #[test]
    fn literal_wins_over_parameter_over_rest() {
        let table = table(&[
            ("GET /users/{id}", "user"),
            ("GET /users/me", "me"),
            ("GET /users/{path*}", "rest"),
            ("POST /users/{id}/posts/{post}", "post"),
        ]);
        check(&table, "GET", "/users/me", Some(("me", &[])));
        check(&table, "GET", "/users/7", Some(("user", &[("id", "7")])));
        check(&table, "GET", "/users/7/8", Some(("rest", &[("path", "7/8")])));
        check(&table, "GET", "/users/me/x", Some(("rest", &[("path", "me/x")])));
        check(&table, "GET", "/users/", Some(("rest", &[("path", "")])));
        check(&table, "POST", "/users/a%2Fb/posts/9", Some(("post", &[("id", "a%2Fb"), ("post", "9")])));
        check(&table, "GET", "/users", None);
        check(&table, "GET", "", None);
        check(&table, "PUT", "/users/7", None);
    }

    #[test]
    fn a_branch_without_the_method_gives_way_to_the_next() {
        let table = table(&[("GET /u/me", "get-me"), ("POST /u/{id}", "post-any"), ("/{path*}", "all")]);
        check(&table, "POST", "/u/me", Some(("post-any", &[("id", "me")])));
        check(&table, "DELETE", "/u/me", Some(("all", &[("path", "u/me")])));
        check(&table, "GET", "/", Some(("all", &[("path", "")])));
    }

    #[test]
    fn the_methods_own_route_wins_and_head_falls_back_to_get() {
        let table = table(&[("/a", "any"), ("GET /a", "get"), ("HEAD /b", "head"), ("GET /b", "get")]);
        check(&table, "GET", "/a", Some(("get", &[])));
        check(&table, "HEAD", "/a", Some(("get", &[])));
        check(&table, "PUT", "/a", Some(("any", &[])));
        check(&table, "HEAD", "/b", Some(("head", &[])));
    }

    #[test]
    fn the_host_itself_wins_over_those_above_it_and_they_over_all() {
        let table = table(&[
            ("GET api.example.com/users/{id}", "api"),
            ("*.example.com/users/{id}", "below"),
            ("*.eu.example.com/users/{id}", "eu"),
            ("/users/{id}", "all"),
            ("/other", "other"),
        ]);
        let found =
            |method, host, path| table.find(method, host, path).map(|found| found.target.name.to_string());
        for (method, host, expected) in [
            ("GET", Some("api.example.com"), "api"),
            ("GET", Some("API.Example.COM.:8080"), "api"),
            ("POST", Some("api.example.com"), "below"),
            ("GET", Some("www.example.com"), "below"),
            ("GET", Some("a.b.eu.example.com"), "eu"),
            ("GET", Some("eu.example.com"), "below"),
            ("GET", Some("example.com"), "all"),
            ("GET", Some("notexample.com"), "all"),
            ("GET", Some("[::1]:80"), "all"),
            ("GET", Some(""), "all"),
            ("GET", None, "all"),
        ] {
            assert_eq!(found(method, host, "/users/7").as_deref(), Some(expected), "{method} {host:?}");
        }
        assert_eq!(found("GET", Some("api.example.com"), "/other").as_deref(), Some("other"));
        let values = table.find("POST", Some("api.example.com"), "/users/7").unwrap().parameters;
        assert_eq!(values, [("id".to_owned(), "7".to_owned())]);
    }

    #[test]
    fn a_taken_route_names_its_owner() {
        let mut table = table(&[("GET /u/{id}", "first")]);
        let route = Route::parse("GET /u/{name}").unwrap();
        let taken =
            table.insert(&route, &Name::default_namespace(), &Name::new("second").unwrap()).unwrap_err();
        assert_eq!((taken.owner.as_str(), taken.name.as_str()), ("first", "second"));
    }
}
