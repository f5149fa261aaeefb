//! Which file of the package a handler or an import names.

/// Tried in this order where a path has no file of its own.
const EXTENSIONS: [&str; 4] = [".ts", ".mts", ".js", ".mjs"];

/// A file of the package.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    pub(super) path: String,
    pub(super) content: Vec<u8>,
}

type Read<'a> = &'a dyn Fn(&str) -> Option<Vec<u8>>;

/// The file that a handler names, and its export where it names one.
pub(super) fn entry(handler: &str, read: Read<'_>) -> Option<(Resolved, Option<String>)> {
    let whole = normal("", handler).and_then(|path| find(&path, read));
    if let Some(found) = whole {
        return Some((found, None));
    }
    let (file, export) = handler.rsplit_once('.').filter(|(_, export)| !export.contains('/'))?;
    let found = normal("", file).and_then(|path| find(&path, read))?;
    Some((found, Some(export.to_owned())))
}

/// The file that the module `from` means with `specifier`; an error's text is for the user.
pub(super) fn resolve(from: &str, specifier: &str, read: Read<'_>) -> Result<Resolved, String> {
    if !specifier.starts_with("./") && !specifier.starts_with("../") {
        return Err(format!(
            "{specifier:?} cannot be imported: a script imports files of its own package by relative paths \
             (./name); bundle what else it needs, or use the runtime node"
        ));
    }
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = normal(folder, specifier).ok_or_else(|| format!("{specifier:?} is outside the package"))?;
    find(&path, read).ok_or_else(|| format!("the package has no file {path}, which {specifier:?} names"))
}

/// The path without `.` and `..`; `None` where it leaves the package or names nothing.
fn normal(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part if part.contains('\0') => return None,
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn find(path: &str, read: Read<'_>) -> Option<Resolved> {
    let with = |path: String| read(&path).map(|content| Resolved { path, content });
    // TypeScript writes `./x.js` where the source is `x.ts`.
    let typed = path.strip_suffix(".js").map(|stem| format!("{stem}.ts"));
    with(path.to_owned())
        .or_else(|| EXTENSIONS.iter().find_map(|extension| with(format!("{path}{extension}"))))
        .or_else(|| typed.and_then(with))
        .or_else(|| EXTENSIONS.iter().find_map(|extension| with(format!("{path}/index{extension}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Option<Vec<u8>> {
        ["main.ts", "lib/a.js", "lib/index.ts", "data.json", "x.ts"].contains(&path).then(Vec::new)
    }

    #[test]
    fn handlers_name_files_and_exports() {
        let of = |handler| entry(handler, &read).map(|(file, export)| (file.path, export));
        let main = |export: Option<&str>| Some(("main.ts".to_owned(), export.map(str::to_owned)));
        assert_eq!(of("main"), main(None));
        assert_eq!(of("main.ts"), main(None));
        assert_eq!(of("main.run"), main(Some("run")));
        assert_eq!(of("lib"), Some(("lib/index.ts".to_owned(), None)));
        assert_eq!(of("other"), None);
        assert_eq!(of("../main"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn imports_stay_in_the_package() {
        let of = |from, specifier| resolve(from, specifier, &read).map(|found| found.path);
        assert_eq!(of("main.ts", "./lib/a"), Ok("lib/a.js".to_owned()));
        assert_eq!(of("main.ts", "./x.js"), Ok("x.ts".to_owned()));
        assert_eq!(of("lib/a.js", "../data.json"), Ok("data.json".to_owned()));
        for refused in
            ["fs", "node:fs", "/etc/passwd", "../../etc/passwd", "./none", "https://x.invalid/a.js"]
        {
            assert!(of("lib/a.js", refused).is_err(), "{refused}");
        }
    }
}
