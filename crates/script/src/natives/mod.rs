//! The functions that the prelude calls. None of them runs JavaScript or waits: what takes time is noted as an
//! [`Effect`] and done when the script has returned.

mod urls;
mod values;

use std::rc::Rc;

use bytes::Bytes;
use rquickjs::{Ctx, Exception, Function, Object, Value};

use crate::ScriptError;
use crate::calls::Head;
use crate::host::{FetchRequest, Level, Redirect};
use crate::loader::{copy_bytes, load_module};
use crate::prelude;
use crate::shared::{Effect, Shared};

/// Timers of one context at once.
pub(crate) const TIMERS_MAX: u32 = 10_000;
/// Longest text in one log message, in bytes; what is longer is cut.
const LOG_BYTES_MAX: usize = 64 * 1024;
/// Longest message or stack of an error, in bytes.
const ERROR_BYTES_MAX: usize = 8 * 1024;

type MakeEffect = fn(u32) -> Effect;

/// All functions, in one object.
pub(crate) fn object<'js>(ctx: &Ctx<'js>, shared: &Rc<Shared>) -> rquickjs::Result<Object<'js>> {
    let natives = Object::new(ctx.clone())?;
    add_calls(ctx, &natives, shared)?;
    add_waits(ctx, &natives, shared)?;
    values::add(ctx, &natives, shared)?;
    urls::add(ctx, &natives)?;
    let load_more = |ctx: Ctx<'js>| {
        let bytecode =
            prelude::bytecode().map_err(|error| Exception::throw_internal(&ctx, &error.to_string()))?;
        let (module, _evaluated_at_once) = load_module(&ctx, &bytecode.more)?.eval()?;
        module.namespace()
    };
    natives.set("loadMore", Function::new(ctx.clone(), load_more)?)?;
    Ok(natives)
}

/// A text or bytes as a script gives them for a body; `None` for anything else, and for a text with lone
/// surrogates, which no encoding has.
pub(crate) fn content(value: &Value<'_>) -> Option<Bytes> {
    if let Some(text) = value.as_string() {
        return text.to_string().ok().map(Bytes::from);
    }
    copy_bytes(value).map(Bytes::from)
}

fn add_calls<'js>(ctx: &Ctx<'js>, natives: &Object<'js>, shared: &Rc<Shared>) -> rquickjs::Result<()> {
    let of = Rc::clone(shared);
    let respond = move |id: u32, status: u16, headers: String, body: Value<'js>| {
        let body = if body.is_null() || body.is_undefined() { Some(Bytes::new()) } else { content(&body) };
        let is_taken = body.is_some();
        if is_taken {
            of.calls.answer(id, Ok(Head { status, headers, body }));
        }
        is_taken
    };
    natives.set("respond", Function::new(ctx.clone(), respond)?)?;
    let of = Rc::clone(shared);
    let respond_stream = move |id: u32, status: u16, headers: String| {
        of.calls.answer(id, Ok(Head { status, headers, body: None }));
    };
    natives.set("respondStream", Function::new(ctx.clone(), respond_stream)?)?;
    let of = Rc::clone(shared);
    let send_piece = move |id: u32, piece: Value<'js>| {
        of.calls.push(id, copy_bytes(&piece).map_or_else(Bytes::new, Bytes::from))
    };
    natives.set("sendPiece", Function::new(ctx.clone(), send_piece)?)?;
    let of = Rc::clone(shared);
    let end_body = move |id: u32, is_whole: bool| {
        let broken = || ScriptError::BadResponse { reason: "the body of the response broke off".to_owned() };
        of.calls.end(id, if is_whole { Ok(()) } else { Err(broken()) });
    };
    natives.set("endBody", Function::new(ctx.clone(), end_body)?)?;
    let of = Rc::clone(shared);
    let fail = move |id: u32, name: String, message: String, stack: String| {
        of.calls.answer(id, Err(of.thrown(name, cut(message), cut(stack))));
    };
    natives.set("fail", Function::new(ctx.clone(), fail)?)?;
    let of = Rc::clone(shared);
    let refuse = move |id: u32, reason: String| {
        of.calls.answer(id, Err(ScriptError::BadResponse { reason }));
    };
    natives.set("refuse", Function::new(ctx.clone(), refuse)?)?;
    let of = Rc::clone(shared);
    natives.set("takesEvents", Function::new(ctx.clone(), move || of.takes_events.set(true))?)?;
    let of = Rc::clone(shared);
    let log = move |level: u32, text: String| {
        let text = &text[..text.floor_char_boundary(LOG_BYTES_MAX)];
        of.options.console.log(of.current_log_id(), Level::from_number(level), text);
    };
    natives.set("log", Function::new(ctx.clone(), log)?)
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
    text
}

fn add_waits<'js>(ctx: &Ctx<'js>, natives: &Object<'js>, shared: &Rc<Shared>) -> rquickjs::Result<()> {
    let of = Rc::clone(shared);
    let start_timer = move |ctx: Ctx<'js>, id: u32, wait_ms: f64| {
        if of.timers.get() >= TIMERS_MAX {
            return Err(Exception::throw_range(&ctx, &format!("a script has at most {TIMERS_MAX} timers")));
        }
        of.timers.set(of.timers.get() + 1);
        of.effects.borrow_mut().push(Effect::StartTimer { id, wait_ms });
        Ok(())
    };
    natives.set("startTimer", Function::new(ctx.clone(), start_timer)?)?;
    let of = Rc::clone(shared);
    let fetch = move |ctx: Ctx<'js>,
                      id: u32,
                      method: String,
                      url: String,
                      headers: String,
                      body: Value<'js>,
                      redirect: String| {
        let body = if body.is_null() { None } else { content(&body) };
        let redirect = match redirect.as_str() {
            "follow" => Redirect::Follow,
            "manual" => Redirect::Manual,
            "error" => Redirect::Error,
            _ => return Err(Exception::throw_type(&ctx, "redirect is follow, manual or error")),
        };
        let request = FetchRequest { method, url, headers, body, redirect };
        of.effects.borrow_mut().push(Effect::Fetch { id, request });
        Ok(())
    };
    natives.set("fetch", Function::new(ctx.clone(), fetch)?)?;
    let simple: [(&str, MakeEffect); 4] = [
        ("stopTimer", Effect::StopTimer),
        ("readBody", Effect::ReadBody),
        ("stopFetch", Effect::StopFetch),
        ("readFetch", Effect::ReadFetch),
    ];
    for (name, effect) in simple {
        let of = Rc::clone(shared);
        let note = move |id: u32| of.effects.borrow_mut().push(effect(id));
        natives.set(name, Function::new(ctx.clone(), note)?)?;
    }
    Ok(())
}
