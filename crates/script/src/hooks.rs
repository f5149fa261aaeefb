//! The prelude's functions that the platform calls, and what it is given for them.

use std::rc::Rc;

use bytes::Bytes;
use rquickjs::{Ctx, Function, Object, Persistent, TypedArray};
use tokio::time::Instant;

use crate::message::CallInfo;
use crate::natives;
use crate::shared::Shared;

/// Gives the prelude what is the script's own.
pub(crate) fn install(
    ctx: &Ctx<'_>,
    install: Persistent<Function<'static>>,
    shared: &Rc<Shared>,
) -> rquickjs::Result<Hooks> {
    let install = install.restore(ctx)?;
    let variables: Vec<Vec<&str>> =
        shared.options.env.iter().map(|(name, value)| vec![name.as_str(), value.as_str()]).collect();
    let exported: Object<'_> = install.call((natives::object(ctx, shared)?, variables))?;
    Hooks::of(ctx, &exported)
}

/// What an event handler is told of a call besides its request.
pub(crate) fn call_object<'js>(
    ctx: &Ctx<'js>,
    call: CallInfo,
    deadline: Option<Instant>,
) -> rquickjs::Result<Object<'js>> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let parameters: Vec<Vec<String>> =
        call.parameters.into_iter().map(|(name, value)| vec![name, value]).collect();
    let object = Object::new(ctx.clone())?;
    object.set("id", call.id)?;
    object.set("remote", call.remote)?;
    object.set("isEvent", call.is_event)?;
    object.set("parameters", parameters)?;
    object.set("remainingMs", left.map_or(f64::INFINITY, |left| left.as_secs_f64() * 1000.0))?;
    Ok(object)
}

/// The functions of the prelude that the platform calls.
pub(crate) struct Hooks {
    pub(crate) begin: Persistent<Function<'static>>,
    pub(crate) cancel: Persistent<Function<'static>>,
    pub(crate) loaded: Persistent<Function<'static>>,
    pub(crate) body_piece: Persistent<Function<'static>>,
    pub(crate) drained: Persistent<Function<'static>>,
    pub(crate) fire_timer: Persistent<Function<'static>>,
    pub(crate) uncaught: Persistent<Function<'static>>,
    pub(crate) fetched: Persistent<Function<'static>>,
    pub(crate) fetched_piece: Persistent<Function<'static>>,
}

impl Hooks {
    fn of<'js>(ctx: &Ctx<'js>, exported: &Object<'js>) -> rquickjs::Result<Self> {
        let hook = |name: &str| {
            let hook = exported.get::<_, Function<'js>>(name)?;
            Ok::<_, rquickjs::Error>(Persistent::save(ctx, hook))
        };
        Ok(Self {
            begin: hook("begin")?,
            cancel: hook("cancel")?,
            loaded: hook("loaded")?,
            body_piece: hook("bodyPiece")?,
            drained: hook("drained")?,
            fire_timer: hook("fireTimer")?,
            uncaught: hook("uncaught")?,
            fetched: hook("fetched")?,
            fetched_piece: hook("fetchedPiece")?,
        })
    }

    /// Calls `hook` with a piece of a body, its end or its error.
    pub(crate) fn deliver(
        &self,
        ctx: &Ctx<'_>,
        hook: &Persistent<Function<'static>>,
        id: u32,
        piece: Option<Result<Bytes, String>>,
    ) -> rquickjs::Result<()> {
        let hook = hook.clone().restore(ctx)?;
        match piece {
            Some(Ok(bytes)) => hook.call((id, TypedArray::<u8>::new_copy(ctx.clone(), bytes)?)),
            None => hook.call((id,)),
            Some(Err(error)) => hook.call((id, rquickjs::Undefined, error)),
        }
    }
}
