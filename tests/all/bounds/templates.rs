//! Templates that go deep, go on for ever, or grow: each is refused or rendered in bounded time, and none ends the program.

use std::time::{Duration, Instant};

use ocelli::chat::message::{Message, Role};
use ocelli::chat::template::{ChatTemplate, RenderOptions};
use ocelli::model::tokenizer::AddedTokens;

/// Bytes of the longest template that is tried.
const SOURCE: usize = 64 << 10;
/// A template is given up after ten seconds of compiling, and after ten of rendering.
const LONGEST: Duration = Duration::from_secs(40);

/// What comes of it, on a thread with as little stack as any.
fn render(source: String) -> Result<String, String> {
    let began = Instant::now();
    let work = move || {
        let template = ChatTemplate::from_source(&source, "test").map_err(|e| e.to_string())?;
        let messages = [Message::text(Role::User, "x")];
        let rendered = template.render(&messages, &RenderOptions::default(), &AddedTokens::default());
        rendered.map(|text| text.plain()).map_err(|e| e.to_string())
    };
    let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(work).unwrap();
    let rendered = thread.join().unwrap();
    assert!(began.elapsed() < LONGEST, "{:?}", began.elapsed());
    rendered
}

/// As often as the source has room for it.
fn many(before: &str, again: &str, behind: &str) -> String {
    format!("{before}{}{behind}", again.repeat((SOURCE - before.len() - behind.len()) / again.len()))
}

#[test]
fn deep_expressions_do_not_end_the_program() {
    for (before, again, behind) in [
        ("{{ a", ".b", " }}"),
        ("{{ a", "[a]", " }}"),
        ("{{ a", "()", " }}"),
        ("{{ a", "|e", " }}"),
        ("{{ 1", "+1", " }}"),
        ("{{ 1", "**1", " }}"),
        ("{{ a", " and a", " }}"),
        ("{{ a", " is defined", " }}"),
        ("{{ a", " if a else a", " }}"),
        ("{{ ", "not ", "a }}"),
        ("{{ ", "-", "1 }}"),
        ("{{ ", "(", "1 }}"),
        ("{{ ", "[", "1 }}"),
        ("", "{% if a %}", ""),
        ("{% if a %}", "{% elif a %}", "{% endif %}"),
        ("", "{% for a in b %}", ""),
        ("{% set a = [] %}", "{% set a = [a] %}", "{{ a }}"),
        ("{{ 'x'", " ~ 'x'", " }}"),
    ] {
        // Whatever it says: it ends.
        let _ = render(many(before, again, behind));
    }
}

#[test]
fn values_that_are_put_into_values_do_not_end_the_program() {
    let deep = |name: &str, inner: &str| {
        format!(
            "{{% for i in range(900) %}}{{% for j in range(900) %}}{{% set ns.{name} = {inner} %}}{{% endfor %}}{{% endfor %}}"
        )
    };
    let begin = "{% set ns = namespace(l=[], m=[]) %}";
    let nested = format!("{}ns.l{}", "[".repeat(40), "]".repeat(40));
    for source in [
        format!("{begin}{}", deep("l", "[ns.l]")),
        format!("{begin}{}", deep("l", &nested)),
        format!("{begin}{}", deep("l", "{'a': ns.l}")),
    ] {
        let error = render(source).unwrap_err();
        assert!(error.contains("takes too long"), "{error}");
    }
    // As deep as the fuel allows, one or two of them; what is done with them must not be what the fuel ends.
    let inner = |name: &str| format!("{}ns.{name}{}", "[".repeat(48), "]".repeat(48));
    let most = |name: &str, times: usize| {
        let set = format!("{{% set ns.{name} = {} %}}", inner(name));
        format!("{{% for i in range(900) %}}{{% for j in range({times}) %}}{set}{{% endfor %}}{{% endfor %}}")
    };
    for end in [
        "{{ (ns.l ~ '') | length }}",
        "{{ ns.l | string | length }}",
        "{{ {ns.l: 1} | length }}",
        "{{ ns.l }}",
    ] {
        let _ = render(format!("{begin}{}{end}", most("l", 25)));
    }
    for end in ["{{ ns.l == ns.m }}", "{{ ns.l < ns.m }}", "{{ [ns.l, ns.m] | unique | length }}"] {
        let _ = render(format!("{begin}{}{}{end}", most("l", 12), most("m", 12)));
    }
    assert_eq!(render(format!("{begin}{}x", most("l", 25))), Ok("x".into()), "the fuel is enough for that");
}

#[test]
fn values_that_hold_each_other_many_times_are_not_printed() {
    let doubled =
        "{% set ns = namespace(l=['x']) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}";
    for end in ["{{ ns.l }}", "{{ ns.l | tojson }}"] {
        let error = render(format!("{doubled}{end}")).unwrap_err();
        assert!(error.contains("takes too long"), "{error}");
    }
}

#[test]
fn what_fuel_does_not_count_is_given_up_and_not_tried_again() {
    let both = "{% set ns = namespace(l=['x'], m=['x']) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}\
        {% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l == ns.m }}";
    let template = ChatTemplate::from_source(both, "test").unwrap();
    let render = || {
        let began = Instant::now();
        let error = template.render(&[], &RenderOptions::default(), &AddedTokens::default()).unwrap_err();
        assert!(error.to_string().contains("takes too long"), "{error}");
        began.elapsed()
    };
    assert!(render() < LONGEST);
    assert!(render() < Duration::from_secs(1), "the second time at once");
    // Its thread is still there, and does nothing.
    #[cfg(target_os = "linux")]
    {
        let began = Instant::now();
        while template_threads().iter().any(|state| state != "S") {
            assert!(began.elapsed() < LONGEST, "a core is kept busy: {:?}", template_threads());
            std::thread::park_timeout(Duration::from_millis(50));
        }
        assert!(!template_threads().is_empty());
    }
}

/// What the threads that work on templates do: R, they run; S, they sleep.
#[cfg(target_os = "linux")]
fn template_threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let texts = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let states = texts.filter_map(|text| {
        let (name, state) = (text.split_once('(')?.1, text.rsplit_once(") ")?.1);
        name.starts_with("template)").then(|| state.chars().take(1).collect())
    });
    states.collect()
}

#[test]
fn a_namespace_that_holds_itself_is_refused() {
    let begin = "{% set ns = namespace() %}{% set ns.a = ns %}";
    for end in ["", "{{ ns }}", "{{ ns.a ~ '' }}", "{{ [ns.a] | string }}"] {
        let error = render(format!("{begin}{end}")).unwrap_err();
        assert!(error.contains("namespace"), "{error}");
    }
}

#[test]
fn templates_reach_nothing_outside() {
    for source in [
        "{% include 'default' %}",
        "{% import 'default' as d %}{{ d }}",
        "{% extends 'default' %}",
        "{% from 'default' import a %}",
        "{{ debug() }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ open('/etc/passwd') }}",
        "{{ self._TemplateReference__context }}",
        "{{ range(1000000000) | list }}",
        "{{ 'x' * 1000000000 }}",
        "{{ 'x' | center(1000000000) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ 'x' | indent(1000000000, true) }}",
        "{{ ('x' * 100000) | replace('x', 'x' * 100000) }}",
        "{{ ('x' * 100000).replace('x', 'x' * 100000) }}",
        "{{ ('x' * 100000).join(range(100000)) }}",
        "{{ 'x'.zfill(1000000000) }}",
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    ] {
        match render(source.to_owned()) {
            Ok(text) => assert!(text.len() < 1000, "{source}: {} bytes", text.len()),
            Err(error) => assert!(error.contains("test"), "{source}: {error}"),
        }
    }
}
