//! Reading and writing traces.

use crate::simulate::trace::Called;

use super::*;

fn file(dir: &tempfile::TempDir, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn read_text(text: impl AsRef<[u8]>) -> Result<Trace, TraceError> {
    let dir = tempfile::tempdir().unwrap();
    let invocations = vec![file(&dir, "trace.csv", text)];
    read(&Inputs { invocations, ..Inputs::default() }, &mut |_| {})
}

/// Line, column and words of the complaint about `text`.
fn complaint(text: impl AsRef<[u8]>) -> (u64, usize, String) {
    match read_text(text) {
        Err(TraceError::Malformed { line, column, reason, .. }) => (line, column, reason),
        other => panic!("{other:?}"),
    }
}

const HEADER: &str = "HashOwner,HashApp,HashFunction,Trigger,1,2,3\n";

#[test]
fn rows_become_calls() {
    let trace = read_text(format!("{HEADER}o,a,f,http,0,2,\no,a,g,timer,1,0,1\r\n\n")).unwrap();
    assert_eq!((trace.functions(), trace.minutes(), trace.calls()), (2, 3, 4));
    assert_eq!(trace.called(1).collect::<Vec<_>>(), [Called { function: 0, times: 2 }]);
}

#[test]
fn functions_without_calls_count_and_a_function_in_two_rows_is_one() {
    let trace =
        read_text(format!("\u{feff}{HEADER}o,a,never,http,0,,0\no,a,f,http,1,0,0\no,a,f,timer,2,0,0\n"));
    let trace = trace.unwrap();
    assert_eq!((trace.functions(), trace.calls()), (2, 3));
    let report = crate::simulate::simulate(&trace, Default::default(), 1, &mut |_| {});
    assert_eq!((report.usual.outcome.cold_starts, report.usual.outcome.cold_share_p75), (1, 1.0 / 3.0));
}

#[test]
fn days_follow_each_other_and_functions_are_told_by_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let invocations = vec![
        file(&dir, "d1", format!("{HEADER}o,a,f,http,1,0,0\n")),
        file(&dir, "d2", format!("{HEADER}o,a,g,http,0,0,1\no,a,f,http,0,5,0\n")),
    ];
    let durations = Some(file(&dir, "t", "HashOwner,HashApp,HashFunction,Average,Count\no,a,f,1500,9\n"));
    let memory = Some(file(&dir, "m", "HashOwner,HashApp,SampleCount,AverageAllocatedMb\no,a,3,64\n"));
    let trace = read(&Inputs { invocations, durations, memory }, &mut |_| {}).unwrap();
    assert_eq!((trace.functions(), trace.minutes()), (2, 6));
    assert_eq!(trace.called(4).collect::<Vec<_>>(), [Called { function: 0, times: 5 }]);
    assert_eq!(trace.parts()[0].functions[0], Traits { memory_mb: 64.0, duration_ms: 1_500.0 });
    assert_eq!(trace.parts()[0].functions[1].memory_mb, 64.0);
}

#[test]
fn what_is_wrong_is_named_by_line_and_column() {
    let check = |text: &str, line, column, words: &str| {
        let (at, field, reason) = complaint(text);
        assert_eq!((at, field), (line, column), "{reason}");
        assert!(reason.contains(words), "{reason}");
    };
    check("", 1, 1, "empty");
    check("a,b\n", 1, 1, "HashOwner");
    check("HashOwner,HashApp,HashFunction,Trigger\n", 1, 5, "minute 1");
    check("HashOwner,HashApp,HashFunction,Trigger,1,3\n", 1, 6, "minute 2");
    check(&format!("{HEADER}o,a,f,http,0,0,0\no,a,g,http,0,x,0\n"), 3, 6, "\"x\"");
    check(&format!("{HEADER}o,a,f,http,0,-1,0\n"), 2, 6, "\"-1\"");
    check(&format!("{HEADER}o,a,f,http,0,0,4294967296\n"), 2, 7, "4294967296");
    check(&format!("{HEADER}o,a,f,http,0\n"), 2, 6, "7 columns");
    check(&format!("{HEADER}o,a\n"), 2, 3, "HashFunction");
    check(&format!("{HEADER}o,a,f,http,0,0,0,0\n"), 2, 8, "7 columns");
}

#[test]
fn binary_and_endless_lines_are_refused() {
    let mut binary = HEADER.as_bytes().to_vec();
    binary.extend([0xff, 0, b',', 0xfe, b',', b'f', b',', b't', b',', 0x80, b',', b'0', b',', b'0']);
    assert_eq!(complaint(binary).1, 5);
    let endless = "x".repeat(usize::try_from(LINE_BYTES_MAX).unwrap() + 10);
    assert!(complaint(endless).2.contains("longer"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let inputs = Inputs { invocations: vec!["/nowhere/trace.csv".into()], ..Inputs::default() };
    let error = read(&inputs, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("/nowhere/trace.csv"));
}

#[test]
fn a_trace_that_was_written_reads_the_same() {
    use crate::simulate::{Mix, Recipe, generate};
    let trace = generate(Recipe { functions: 50, minutes: 300, seed: 5, mix: Mix::Cloud });
    let (mut invocations, mut durations, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    write(&trace, [&mut invocations, &mut durations, &mut memory]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let inputs = Inputs {
        invocations: vec![file(&dir, "i", invocations)],
        durations: Some(file(&dir, "d", durations)),
        memory: Some(file(&dir, "m", memory)),
    };
    let read = read(&inputs, &mut |_| {}).unwrap();
    assert_eq!(read.parts()[0].functions, trace.parts()[0].functions);
    assert_eq!(read.calls(), trace.calls());
    assert_eq!(read.minutes(), trace.minutes());
}
