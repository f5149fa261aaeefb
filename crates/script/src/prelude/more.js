// What a script finds only if it asks for it: see start.js.
import {
  Body, Headers, NULL_BODY_STATUS, Request, Response, define, flattenHeaders, isView, joined, kHeaders, kSignal, kSource,
  native, tag, toBytes, utf8,
} from "alula:prelude";

export {
  AbortController, AbortSignal, BadResult, Event, EventTarget, ReadableStream, TextDecoder, TextEncoder, URL, URLSearchParams,
  abortSignal, atob, btoa, crypto, fetch, fetched, fetchedPiece, format, runHandler, streamState, structuredClone,
};
