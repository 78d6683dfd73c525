//! What arguments come to.

use super::*;

fn served(args: &[&str]) -> ServeArgs {
    match run(
        "/usr/bin/leveret",
        args.iter().map(OsString::from).collect(),
    ) {
        Action::Serve(args) => args,
        Action::Done(code) => panic!("{args:?} ended with {code:?}"),
    }
}

#[test]
fn o3_without_a_command_the_broker_runs() {
    assert_eq!(served(&[]), ServeArgs::default());
    assert_eq!(served(&["server"]), ServeArgs::default());
    let options = [
        "--config",
        "a.toml",
        "--config",
        "b.conf",
        "--data-dir",
        "/d",
    ];
    let more = ["--set", "x=1", "--set", "y=2", "--log-level", "debug"];
    let expected = ServeArgs {
        configs: vec!["a.toml".into(), "b.conf".into()],
        data_dir: Some("/d".into()),
        sets: vec!["x=1".into(), "y=2".into()],
        log_level: Some("debug".into()),
    };
    let mut args: Vec<&str> = options.into_iter().chain(more).collect();
    assert_eq!(served(&args), expected);
    args.insert(0, "server");
    assert_eq!(served(&args), expected);
}

#[test]
fn the_tables_of_commands_are_sound() {
    command().debug_assert();
    ctl::command("rabbitmqctl").debug_assert();
    plugins::command("rabbitmq-plugins").debug_assert();
}
