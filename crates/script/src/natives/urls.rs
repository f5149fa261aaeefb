//! URLs, by the WHATWG standard.

use rquickjs::{Ctx, Exception, Function, Object};
use url::{Url, form_urlencoded, quirks};

pub(super) fn add<'js>(ctx: &Ctx<'js>, natives: &Object<'js>) -> rquickjs::Result<()> {
    let parse = |text: String, base: rquickjs::prelude::Opt<Option<String>>| {
        parse(&text, base.0.flatten().as_deref())
    };
    natives.set("parseUrl", Function::new(ctx.clone(), parse)?)?;
    natives.set("splitUrl", Function::new(ctx.clone(), |ctx: Ctx<'js>, href: String| split(&ctx, &href))?)?;
    let change =
        |ctx: Ctx<'js>, href: String, part: String, value: String| change(&ctx, &href, &part, &value);
    natives.set("changeUrl", Function::new(ctx.clone(), change)?)?;
    let parse_query = |query: String| {
        let pairs = form_urlencoded::parse(query.as_bytes());
        pairs.flat_map(|(name, value)| [name.into_owned(), value.into_owned()]).collect::<Vec<String>>()
    };
    natives.set("parseQuery", Function::new(ctx.clone(), parse_query)?)?;
    let format_query = |fields: Vec<String>| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(fields.chunks_exact(2).map(|pair| (&pair[0], &pair[1])));
        query.finish()
    };
    natives.set("formatQuery", Function::new(ctx.clone(), format_query)?)
}

fn parse(text: &str, base: Option<&str>) -> Option<String> {
    let parsed = match base {
        Some(base) => Url::parse(base).ok()?.join(text),
        None => Url::parse(text),
    };
    parsed.ok().map(String::from)
}

fn checked(ctx: &Ctx<'_>, href: &str) -> rquickjs::Result<Url> {
    Url::parse(href).map_err(|_| Exception::throw_type(ctx, "not a valid URL"))
}

/// The parts in the prelude's order, and the origin after them.
fn split(ctx: &Ctx<'_>, href: &str) -> rquickjs::Result<Vec<String>> {
    let url = checked(ctx, href)?;
    let parts = [
        quirks::protocol(&url),
        quirks::username(&url),
        quirks::password(&url),
        quirks::host(&url),
        quirks::hostname(&url),
        quirks::port(&url),
        quirks::pathname(&url),
        quirks::search(&url),
        quirks::hash(&url),
    ];
    Ok(parts.into_iter().map(str::to_owned).chain([quirks::origin(&url)]).collect())
}

/// Sets one part; what it cannot be is ignored, as the standard has it.
fn change(ctx: &Ctx<'_>, href: &str, part: &str, value: &str) -> rquickjs::Result<String> {
    let mut url = checked(ctx, href)?;
    match part {
        "protocol" => ignore(quirks::set_protocol(&mut url, value)),
        "username" => ignore(quirks::set_username(&mut url, value)),
        "password" => ignore(quirks::set_password(&mut url, value)),
        "host" => ignore(quirks::set_host(&mut url, value)),
        "hostname" => ignore(quirks::set_hostname(&mut url, value)),
        "port" => ignore(quirks::set_port(&mut url, value)),
        "pathname" => quirks::set_pathname(&mut url, value),
        "search" => quirks::set_search(&mut url, value),
        _ => quirks::set_hash(&mut url, value),
    }
    Ok(url.into())
}

/// A part that cannot be what it was set to stays as it was.
fn ignore(_set: Result<(), ()>) {}
