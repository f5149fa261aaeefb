//! The web-standard functions, as docs/script.md lists them.

use crate::world::{run, world};

/// Runs each body as an async function and compares its value as JSON.
fn check(cases: &[(&str, &str)]) {
    run(async {
        let world = world();
        for (body, expected) in cases {
            assert_eq!(world.evaluate(body).await, *expected, "{body}");
        }
    });
}

#[test]
fn headers() {
    check(&[
        (
            "const h = new Headers({ A: '1' }); h.append('a', '2'); return [h.get('A'), h.has('a'), h.has('b')]",
            r#"["1, 2",true,false]"#,
        ),
        (
            "const h = new Headers([['B', '1'], ['a', ' x ']]); h.set('b', '2'); return [...h]",
            r#"[["a","x"],["b","2"]]"#,
        ),
        (
            "const h = new Headers(); h.append('Set-Cookie', 'a=1'); h.append('set-cookie', 'b=2'); return [h.getSetCookie(), [...h.keys()]]",
            r#"[["a=1","b=2"],["set-cookie","set-cookie"]]"#,
        ),
        ("const h = new Headers({ a: '1' }); h.delete('A'); return [...h.entries()].length", "0"),
        (
            "const seen = []; request.headers.forEach((v, k) => seen.push(`${k}=${v}`)); return seen",
            r#"["host=localhost","x-two=a, b"]"#,
        ),
        ("try { new Headers({ 'a b': '1' }) } catch (e) { return e.name }", r#""TypeError""#),
        ("try { new Headers({ a: '1\\n2' }) } catch (e) { return e.name }", r#""TypeError""#),
        ("try { new Headers({ a: '\\u0100' }) } catch (e) { return e.name }", r#""TypeError""#),
        ("return Object.prototype.toString.call(new Headers())", r#""[object Headers]""#),
    ]);
}

#[test]
fn requests_and_responses() {
    check(&[
        (
            "return [await new Response('{\"a\":1}').json(), await new Response('x').text()]",
            r#"[{"a":1},"x"]"#,
        ),
        ("const r = new Response('hé'); return [...await r.bytes()]", "[104,195,169]"),
        (
            "const r = new Response(new Uint8Array([1, 2, 3]).subarray(1)); return (await r.arrayBuffer()).byteLength",
            "2",
        ),
        (
            "const r = new Response('x'); await r.text(); try { await r.text() } catch (e) { return [e.name, r.bodyUsed] }",
            r#"["TypeError",true]"#,
        ),
        (
            "const r = Response.json({ a: 1 }, { status: 201 }); return [r.status, r.ok, r.headers.get('content-type')]",
            r#"[201,true,"application/json"]"#,
        ),
        (
            "const r = Response.redirect('http://a/b', 307); return [r.status, r.headers.get('location')]",
            r#"[307,"http://a/b"]"#,
        ),
        ("try { new Response('x', { status: 204 }) } catch (e) { return e.name }", r#""TypeError""#),
        ("try { new Response('', { status: 99 }) } catch (e) { return e.name }", r#""RangeError""#),
        (
            "const r = new Request('http://a/b', { method: 'post', body: 'x' }); return [r.method, r.url, r.headers.get('content-type'), await r.text()]",
            r#"["POST","http://a/b","text/plain;charset=UTF-8","x"]"#,
        ),
        ("try { new Request('http://a/', { body: 'x' }) } catch (e) { return e.name }", r#""TypeError""#),
        ("try { new Request('/relative') } catch (e) { return e.name }", r#""TypeError""#),
        (
            "const a = new Request('http://a/', { method: 'POST', body: 'x' }); const b = a.clone(); return [await a.text(), await b.text()]",
            r#"["x","x"]"#,
        ),
        (
            "const a = new Response(ReadableStream.from(['a', 'b'])); const b = a.clone(); return [await a.text(), await b.text()]",
            r#"["ab","ab"]"#,
        ),
        (
            "return [request instanceof Request, request.method, request.body, request.signal.aborted]",
            r#"[true,"GET",null,false]"#,
        ),
        ("return await new Response(new URLSearchParams({ a: '1 2' })).text()", r#""a=1+2""#),
        (
            "return await new Response('a\\uD800b').text().then((t) => new TextEncoder().encode(t).length)",
            "5",
        ),
    ]);
}

#[test]
fn streams() {
    check(&[
        (
            "const s = new ReadableStream({ start(c) { c.enqueue(1); c.enqueue(2); c.close() } }); const all = []; for await (const x of s) all.push(x); return all",
            "[1,2]",
        ),
        (
            "let n = 0; const s = new ReadableStream({ pull(c) { c.enqueue(++n); if (n === 3) c.close() } }); const r = s.getReader(); const all = []; for (;;) { const { value, done } = await r.read(); if (done) break; all.push(value) } await r.closed; return [all, s.locked]",
            "[[1,2,3],true]",
        ),
        (
            "const s = new ReadableStream({ pull() { throw new Error('bad') } }); try { await s.getReader().read() } catch (e) { return e.message }",
            r#""bad""#,
        ),
        (
            "let why; const s = new ReadableStream({ cancel(r) { why = r } }); await s.cancel('enough'); return why",
            r#""enough""#,
        ),
        (
            "const s = ReadableStream.from([1, 2]); s.getReader(); try { s.getReader() } catch (e) { return e.name }",
            r#""TypeError""#,
        ),
        (
            "const [a, b] = ReadableStream.from([1, 2]).tee(); const all = []; for await (const x of a) all.push(x); for await (const x of b) all.push(x); return all",
            "[1,2,1,2]",
        ),
        (
            "const s = new ReadableStream({ start(c) { setTimeout(() => { c.enqueue('late'); c.close() }, 1) } }); return await new Response(s).text()",
            r#""late""#,
        ),
    ]);
}

#[test]
fn urls() {
    check(&[
        (
            "const u = new URL('../c?x=1#h', 'https://u:p@Example.com:8443/a/b'); return [u.href, u.origin, u.host, u.hostname, u.port, u.pathname, u.search, u.hash, u.username, u.password, u.protocol]",
            r##"["https://u:p@example.com:8443/c?x=1#h","https://example.com:8443","example.com:8443","example.com","8443","/c","?x=1","#h","u","p","https:"]"##,
        ),
        (
            "const u = new URL('http://a/'); u.searchParams.append('q', 'a b'); u.hash = 'x'; u.port = '81'; return [`${u}`, u.searchParams.get('q')]",
            r##"["http://a:81/?q=a+b#x","a b"]"##,
        ),
        (
            "const u = new URL('http://a/?x=1'); const p = u.searchParams; u.search = '?x=2'; return p.get('x')",
            r#""2""#,
        ),
        (
            "try { new URL('nope') } catch (e) { return [e.name, URL.canParse('nope'), URL.canParse('/a', 'http://b')] }",
            r#"["TypeError",false,true]"#,
        ),
        (
            "const p = new URLSearchParams('?a=1&b=%C3%A9&a=2'); p.sort(); return [p.getAll('a'), p.get('b'), p.has('a', '2'), p.size, `${p}`, [...p.keys()]]",
            r#"[["1","2"],"é",true,3,"a=1&a=2&b=%C3%A9",["a","a","b"]]"#,
        ),
        (
            "const p = new URLSearchParams([['a', '1']]); p.set('a', '2'); p.append('b', '&='); p.delete('a'); return p.toString()",
            r#""b=%26%3D""#,
        ),
        (
            "return [new URL('http://xn--bcher-kva.example/').hostname, new URL('http://bücher.example/').hostname]",
            r#"["xn--bcher-kva.example","xn--bcher-kva.example"]"#,
        ),
    ]);
}

#[test]
fn texts_and_values() {
    check(&[
        ("return [...new TextEncoder().encode('aé€😀')]", "[97,195,169,226,130,172,240,159,152,128]"),
        (
            "const d = new TextDecoder(); const b = new TextEncoder().encode('a€b'); return d.decode(b.subarray(0, 2), { stream: true }) + d.decode(b.subarray(2))",
            r#""a€b""#,
        ),
        (
            "try { new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array([255])) } catch (e) { return e.name }",
            r#""TypeError""#,
        ),
        ("return new TextDecoder().decode(new Uint8Array([0xEF, 0xBB, 0xBF, 97, 255]))", "\"a\u{fffd}\""),
        (
            "return [btoa('\\xff\\x00a'), atob('/wBh') === '\\xff\\x00a', atob(' /w = = ') === '\\xff']",
            r#"["/wBh",true,true]"#,
        ),
        ("try { btoa('€') } catch (e) { return e.name }", r#""InvalidCharacterError""#),
        ("try { atob('*') } catch (e) { return e.name }", r#""InvalidCharacterError""#),
        (
            "const h = await crypto.subtle.digest('SHA-256', new TextEncoder().encode('abc')); return [...new Uint8Array(h)].slice(0, 4)",
            "[186,120,22,191]",
        ),
        (
            "try { await crypto.subtle.digest('MD5', new Uint8Array()) } catch (e) { return e.name }",
            r#""NotSupportedError""#,
        ),
        (
            "return [crypto.randomUUID(), [...crypto.getRandomValues(new Uint8Array(3))]]",
            r#"["00010203-0405-4607-8809-0a0b0c0d0e0f",[0,1,2]]"#,
        ),
        (
            "const a = { d: new Date(0), m: new Map([[1, { x: 1 }]]), s: new Set([1]), u: new Uint8Array([1]) }; a.self = a; const b = structuredClone(a); return [b.self === b, b.d.getTime(), b.m.get(1), b.m.get(1) !== a.m.get(1), b.s.has(1), b.u[0]]",
            r#"[true,0,{"x":1},true,true,1]"#,
        ),
        ("try { structuredClone({ f() {} }) } catch (e) { return e.name }", r#""DataCloneError""#),
        ("return performance.now() >= 0", "true"),
    ]);
}

#[test]
fn timers_and_signals() {
    check(&[
        (
            "const seen = []; setTimeout((x) => seen.push(x), 5, 'late'); setTimeout(() => seen.push('soon'), 1); clearTimeout(setTimeout(() => seen.push('never'), 2)); await new Promise((r) => setTimeout(r, 20)); return seen",
            r#"["soon","late"]"#,
        ),
        (
            "let n = 0; await new Promise((r) => { const t = setInterval(() => { if (++n === 3) { clearInterval(t); r() } }, 1) }); return n",
            "3",
        ),
        (
            "const seen = []; queueMicrotask(() => seen.push('micro')); seen.push('now'); await null; return seen",
            r#"["now","micro"]"#,
        ),
        (
            "const c = new AbortController(); const seen = []; c.signal.addEventListener('abort', () => seen.push(c.signal.reason)); c.abort('why'); c.abort('again'); return [seen, c.signal.aborted]",
            r#"[["why"],true]"#,
        ),
        ("try { AbortSignal.abort().throwIfAborted() } catch (e) { return e.name }", r#""AbortError""#),
        (
            "const s = AbortSignal.timeout(1); await new Promise((r) => s.addEventListener('abort', r)); return s.reason.name",
            r#""TimeoutError""#,
        ),
        (
            "const c = new AbortController(); const any = AbortSignal.any([c.signal, new AbortController().signal]); c.abort(1); return any.reason",
            "1",
        ),
    ]);
}

#[test]
fn fetch() {
    check(&[
        (
            "const r = await fetch('http://service/a', { method: 'POST', body: 'x', headers: { 'X-A': 'b' } }); return [r.status, r.url, r.headers.get('x-mirror'), await r.text()]",
            r#"[201,"http://service/a","yes","POST http://service/a x-a=b=content-type=text/plain;charset=UTF-8|x"]"#,
        ),
        (
            "try { await fetch('http://service/refused') } catch (e) { return [e.name, e.message] }",
            r#"["TypeError","fetch failed: connection refused"]"#,
        ),
        (
            "const r = await Promise.all([1, 2, 3].map((n) => fetch(`http://service/${n}`).then((r) => r.text()))); return r.length",
            "3",
        ),
        (
            "const c = new AbortController(); setTimeout(() => c.abort(), 1); try { await fetch('http://service/hang', { signal: c.signal }) } catch (e) { return e.name }",
            r#""AbortError""#,
        ),
        (
            "const r = await fetch('http://service/a'); let text = ''; for await (const piece of r.body) text += new TextDecoder().decode(piece); return text",
            r#""GET http://service/a |""#,
        ),
        (
            "const all = await Promise.allSettled(Array.from({ length: 70 }, () => fetch('http://service/a'))); return all.filter((x) => x.status === 'rejected').length > 0",
            "true",
        ),
    ]);
}

#[test]
fn what_nobody_writes_on_purpose() {
    check(&[
        ("try { await fetch('http://') } catch (e) { return e.name }", r#""TypeError""#),
        ("try { await fetch('/relative') } catch (e) { return e.name }", r#""TypeError""#),
        ("return [URL.parse('http://['), URL.parse('a', 'http://b/c/d').href]", r#"[null,"http://b/c/a"]"#),
        (
            "return [new URL('http://a/%zz?q=%').search, new URL('HTTP://EXAMPLE.com:80/../x').href]",
            r#"["?q=%","http://example.com/x"]"#,
        ),
        ("const h = new Headers({ a: 'x'.repeat(1e5) }); return h.get('a').length", "100000"),
        (
            "const h = new Headers(); for (let n = 0; n < 1e4; n++) h.append(`a${n % 100}`, n); return [...h].length",
            "100",
        ),
        ("try { new Headers([['a']]) } catch (e) { return e.name }", r#""TypeError""#),
        ("try { new Request('http://a/', { method: 'A B' }) } catch (e) { return e.name }", r#""TypeError""#),
        (
            "try { new Request('http://a/', { method: 'trace' }) } catch (e) { return e.name }",
            r#""TypeError""#,
        ),
        (
            "const all = Uint8Array.from({ length: 256 }, (_, n) => n); const r = new Response(all); all.fill(0); return (await r.bytes()).every((value, n) => value === n)",
            "true",
        ),
        ("return (await new Response(new Uint8Array([0xff, 0xfe, 0])).text()).length", "3"),
        ("return (await new Response(new DataView(new ArrayBuffer(4), 1, 2)).arrayBuffer()).byteLength", "2"),
        ("try { await new Response('no json').json() } catch (e) { return e.name }", r#""SyntaxError""#),
        (
            "const s = ReadableStream.from(['a', 1]); try { await new Response(s).text() } catch (e) { return e.name }",
            r#""TypeError""#,
        ),
        (
            "const s = ReadableStream.from(['a']); const r = new Response(s); s.getReader(); try { await r.text() } catch (e) { return e.name }",
            r#""TypeError""#,
        ),
        (
            "const c = new AbortController(); c.abort(); try { await fetch('http://service/hang', { signal: c.signal }) } catch (e) { return e.name }",
            r#""AbortError""#,
        ),
        (
            "const c = new AbortController(); const r = await fetch('http://service/a', { signal: c.signal }); c.abort('enough'); try { await r.text() } catch (e) { return e }",
            r#""enough""#,
        ),
        (
            "try { crypto.getRandomValues(new Uint8Array(65537)) } catch (e) { return e.name }",
            r#""QuotaExceededError""#,
        ),
        ("try { setTimeout('code') } catch (e) { return e.name }", r#""TypeError""#),
        ("try { new TextDecoder('latin1') } catch (e) { return e.name }", r#""RangeError""#),
    ]);
}
