//! `[routes]`: from a method and a path to the name of an endpoint.
//!
//! The paths of a policy form a tree, one level for each segment. A look-up visits each node at most
//! once and allocates nothing, whatever the path.

use std::collections::HashMap;

use crate::model::Route;
use crate::problem::{Fault, quote};

/// Deeper paths than this are not expected; the look-up recurses once for each segment.
const MAX_SEGMENTS: usize = 32;

/// Says whether a route can have this path: `/orders/{id}`. nginx gives normalised paths, so a path
/// that is not normalised would never match.
pub(crate) fn check_path(path: &str) -> Result<(), Fault> {
    let Some(inner) = path.strip_prefix('/') else {
        let message = format!("the path {} does not begin with /", quote(path));
        return Err(Fault::new(message, "write it like \"GET /orders/{id}\""));
    };
    let count = inner.split('/').count();
    if count > MAX_SEGMENTS {
        let message = format!("the path has {count} segments");
        return Err(Fault::new(message, format!("at most {MAX_SEGMENTS} can be told apart")));
    }
    let inner_most = inner.split('/').take(count - 1);
    if inner_most.clone().any(str::is_empty) {
        return Err(Fault::new("the path has an empty segment", "write each / once"));
    }
    inner.split('/').try_for_each(check_segment)
}

fn check_segment(segment: &str) -> Result<(), Fault> {
    if segment == "." || segment == ".." {
        return Err(Fault::new("the path is not normalised", "write it without . and .."));
    }
    if segment.contains(['*', '?', '#']) {
        let message = format!("the segment {} is taken letter by letter", quote(segment));
        return Err(Fault::new(message, "a name in braces stands for any one segment"));
    }
    let inner = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let is_fine = match inner {
        Some(name) => !name.is_empty() && !name.contains(['{', '}']),
        None => !segment.contains(['{', '}']),
    };
    if is_fine {
        return Ok(());
    }
    let remedy = "braces enclose a whole segment and hold a name, as in /orders/{id}";
    Err(Fault::new(format!("the segment {} is not understood", quote(segment)), remedy))
}

/// All routes of a policy.
#[derive(Default)]
pub(crate) struct Routes {
    root: Branch,
}

#[derive(Default)]
struct Branch {
    literals: HashMap<Box<str>, Branch>,
    parameter: Option<Box<Branch>>,
    /// Routes that end here: method (`None` for any) and name.
    names: Vec<(Option<Box<str>>, Box<str>)>,
}

impl Routes {
    pub fn new(routes: &[Route]) -> Routes {
        let mut root = Branch::default();
        for route in routes {
            let inner = route.path.strip_prefix('/').unwrap_or(&route.path);
            let end = inner.split('/').fold(&mut root, Branch::grow);
            end.names.push((route.method.clone(), route.name.clone()));
        }
        Routes { root }
    }

    /// The route of a normalised path. A literal segment comes before a parameter, from left to
    /// right; at the end of the path the method comes before `*`.
    pub fn find(&self, method: &str, path: &str) -> Option<&str> {
        self.root.find(method, Some(path.strip_prefix('/')?))
    }
}

impl Branch {
    fn grow(&mut self, segment: &str) -> &mut Branch {
        if segment.starts_with('{') {
            self.parameter.get_or_insert_default()
        } else {
            self.literals.entry(segment.into()).or_default()
        }
    }

    fn find(&self, method: &str, rest: Option<&str>) -> Option<&str> {
        let Some(rest) = rest else {
            return self.name(method);
        };
        let (segment, rest) = match rest.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (rest, None),
        };
        let literal = self.literals.get(segment).and_then(|branch| branch.find(method, rest));
        literal.or_else(|| {
            let parameter = self.parameter.as_ref().filter(|_| !segment.is_empty())?;
            parameter.find(method, rest)
        })
    }

    fn name(&self, method: &str) -> Option<&str> {
        let exact = self.names.iter().find(|(known, _)| known.as_deref() == Some(method));
        let any = || self.names.iter().find(|(known, _)| known.is_none());
        exact.or_else(any).map(|(_, name)| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(list: &[(&str, &str)]) -> Routes {
        let route = |&(name, text): &(&str, &str)| {
            let (method, path) = text.split_once(' ').unwrap();
            check_path(path).unwrap();
            let method = (method != "*").then(|| method.into());
            Route { name: name.into(), method, path: path.into() }
        };
        Routes::new(&list.iter().map(route).collect::<Vec<_>>())
    }

    #[test]
    fn the_most_specific_route_wins() {
        let routes = routes(&[
            ("order", "GET /orders/{id}"),
            ("any order", "* /orders/{id}"),
            ("orders today", "GET /orders/today"),
            ("line", "GET /orders/{id}/lines/{line}"),
            ("today's total", "GET /orders/today/total"),
            ("root", "GET /"),
            ("folder", "GET /folder/"),
        ]);
        assert_eq!(routes.find("GET", "/orders/7"), Some("order"));
        assert_eq!(routes.find("PUT", "/orders/7"), Some("any order"));
        assert_eq!(routes.find("GET", "/orders/today"), Some("orders today"));
        assert_eq!(routes.find("PUT", "/orders/today"), Some("any order"), "goes back to {{id}}");
        assert_eq!(routes.find("GET", "/orders/today/lines/2"), Some("line"), "goes back too");
        assert_eq!(routes.find("GET", "/orders/today/total"), Some("today's total"));
        assert_eq!(routes.find("GET", "/"), Some("root"));
        assert_eq!(routes.find("GET", "/folder/"), Some("folder"));
    }

    #[test]
    fn tricks_with_paths_find_nothing() {
        let routes = routes(&[("order", "GET /orders/{id}"), ("all", "GET /orders")]);
        let long = "/a".repeat(4_000);
        for path in ["", "orders", "/Orders", "/orders/", "/orders//7", "/orders;v=1", "//", &long] {
            assert_eq!(routes.find("GET", path), None, "{path}");
        }
        assert_eq!(routes.find("GET", "/orders/%2e%2e"), Some("order"), "one odd segment");
        assert_eq!(Routes::default().find("GET", "/"), None);
    }

    #[test]
    fn paths_that_never_match_are_refused() {
        for path in [
            "*", "orders", "/a//b", "/a/../b", "/a/./b", "/{}", "/{a", "/a}", "/x{id}", "/{a}{b}", "/a/*",
            "/a?b",
        ] {
            assert!(check_path(path).is_err(), "{path}");
        }
        assert!(check_path(&"/a".repeat(32)).is_ok());
        assert!(check_path(&"/a".repeat(33)).is_err());
    }
}
