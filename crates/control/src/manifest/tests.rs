use alula_model::Network;

use super::*;

fn error(text: &str) -> String {
    let checked = read(text).and_then(|drafts| drafts.iter().try_for_each(|draft| draft.spec().map(|_| ())));
    checked.unwrap_err().to_string()
}

#[test]
fn errors_name_the_field_its_line_and_the_remedy() {
    let table = [
        (
            "name = \"a\"\nmemroy_mb = 5\n",
            "alula.toml line 2: unknown key memroy_mb; did you mean memory_mb?",
        ),
        (
            "[functions.a]\nruntime = \"x\"\ntimeout = 5\n",
            "alula.toml line 3: unknown key timeout; did you mean timeout_ms?",
        ),
        ("[function.a]\nruntime = \"x\"\n", "alula.toml line 1: unknown key function"),
        (
            "[functions.a]\n[default]\n",
            "alula.toml line 2: unknown key default beside [functions]; did you mean defaults?",
        ),
        ("name = \"a\"\nzzz = 1", "alula.toml line 2: unknown key zzz; known are runtime, handler"),
        ("name = \"A\"", "alula.toml line 1: name: name \"A\" is not allowed"),
        ("name = 5", "alula.toml line 1: name: must be a text"),
        ("[functions.A_b]\nruntime=\"x\"", "alula.toml line 1: name: name \"A_b\" is not allowed"),
        ("runtime = 5", "alula.toml line 1: runtime: invalid type"),
        ("runtime = \"x\"\nmemory_mb = \"256\"", "alula.toml line 2: memory_mb: invalid type: string"),
        ("runtime = \"x\"\nmemory_mb = -1", "alula.toml line 2: memory_mb: invalid value"),
        (
            "runtime = \"x\"\nmemory_mb = 1",
            "alula.toml line 2: memory_mb: 1 is out of bounds, allowed is 16 to",
        ),
        ("runtime = \"x\"\nnetwork = \"all\"", "alula.toml line 2: network: unknown variant `all`"),
        ("runtime = \"x\"\nroutes = [\"get /\"]", "alula.toml line 2: routes: route"),
        ("runtime = \"x\"\n\n[env]\nA = 1", "alula.toml line 3: env: invalid type: integer"),
        (
            "runtime = \"x\"\n[build]\ncommand = \"x\"\ncashe_key = []",
            "alula.toml line 4: unknown key cashe_key in build; did you mean cache_key?",
        ),
        ("runtime = \"x\"\n[build]\ncommand = 5", "alula.toml line 3: build.command: invalid type"),
        ("runtime = \"x\"\n[build]\nmemory_mb = 100", "alula.toml line 2: build: missing field `command`"),
        (
            "[functions.a]\nsource = \"../x\"",
            "alula.toml line 2: source: must be a folder inside the archive",
        ),
        ("[functions]\n", "alula.toml: [functions] is empty"),
        ("functions = 5", "alula.toml line 1: functions: must be a table"),
        ("[functions]\na = 5", "alula.toml line 2: functions.a: must be a table"),
        ("a = = 5", "alula.toml line 1: "),
        ("name = \"a\"\nname = \"b\"", "alula.toml line 2: duplicate key"),
        ("", "missing field `runtime`"),
    ];
    for (text, expect) in table {
        let said = error(text);
        assert!(said.starts_with(expect), "{text:?}\n  said     {said}\n  expected {expect}");
    }
}

#[test]
fn one_function() {
    let drafts = read("name = \"hello\"\nruntime = \"exec\"\nmemory_mb = 64\nroutes = [\"GET /a\"]").unwrap();
    let [draft] = drafts.as_slice() else { panic!("one function") };
    assert_eq!(draft.name.as_ref().map(Name::as_str), Some("hello"));
    let spec = draft.spec().unwrap();
    assert_eq!((spec.runtime.as_str(), spec.memory_mb, spec.routes.len()), ("exec", 64, 1));
}

#[test]
fn several_functions_over_defaults() {
    let text = "[defaults]\nruntime = \"exec\"\nmemory_mb = 64\nenv = { A = \"1\", B = \"1\" }\n\
                [functions.one]\nsource = \"./sub/one/\"\nenv = { B = \"2\" }\n\
                [functions.two]\nmemory_mb = 128\nnetwork = \"internet\"\n";
    let drafts = read(text).unwrap();
    let [one, two] = drafts.as_slice() else { panic!("two functions") };
    assert_eq!(one.source, PathBuf::from("sub/one"));
    let (one, second) = (one.spec().unwrap(), two.spec().unwrap());
    assert_eq!((one.env["A"].as_str(), one.env["B"].as_str(), one.memory_mb), ("1", "2", 64));
    assert_eq!((second.memory_mb, second.network, second.env["B"].as_str()), (128, Network::Internet, "1"));
    assert_eq!(two.source, PathBuf::new());
}

#[test]
fn overrides_win_and_are_checked() {
    let mut draft = read("runtime = \"exec\"\nmemory_mb = 64\nenv = { A = \"1\" }").unwrap().remove(0);
    let overrides = |json: &str| serde_json::from_str::<Overrides>(json).unwrap();
    draft.override_with(&overrides(r#"{"memory_mb": 32, "env": {"B": "2"}}"#)).unwrap();
    let spec = draft.spec().unwrap();
    assert_eq!((spec.memory_mb, spec.env.len()), (32, 2));
    let said = draft.override_with(&overrides(r#"{"memory": 32}"#)).unwrap_err().to_string();
    assert_eq!(said, "unknown key memory; did you mean memory_mb?");
    assert!(draft.override_with(&overrides(r#"{"memory_mb": "x"}"#)).is_err());
}

#[test]
fn names_from_files() {
    let check = |file: &str, expect: Option<&str>| {
        assert_eq!(guess::name_from(file).as_ref().map(Name::as_str), expect, "{file}");
    };
    check("hello.py", Some("hello"));
    check("a/b/My Shop.tar.gz", Some("my-shop"));
    check("_private_.js", Some("private"));
    check(".hidden", Some("hidden"));
    check("___", None);
    check("", None);
}
