//! What can be done about a failure, in words: the one place that names flags in them.

use coprof_core::error::{Error, Given, Remedy};

/// A failure as it is told.
pub fn told(error: &Error) -> String {
    let message = error.to_string();
    error.remedy().map_or(message.clone(), |remedy| advised(&message, remedy))
}

/// A message with what can be done about it.
pub fn advised(message: &str, remedy: Remedy) -> String {
    let (before, behind) = words(remedy);
    if let Remedy::AllowOthers { port } = remedy {
        return format!("{message}{behind} on 127.0.0.1:{port}");
    }
    format!("{before}{message}{behind}")
}

/// What stands before a message and behind it.
fn words(remedy: Remedy) -> (&'static str, &'static str) {
    match remedy {
        Remedy::GiveAnother(given) => (flag(given), ""),
        Remedy::NameOtherCifar10 => ("--data names ", ""),
        Remedy::NameCifar10 => ("", ", --data names another place"),
        Remedy::FetchOrNameCifar10 => ("", " (`coprof fetch cifar10`, or --data)"),
        Remedy::NameCopy => ("", ", or name a copy with `--data FILE`"),
        Remedy::RecordLabelled => {
            ("--data ", "; `coprof exits --record` and `coprof encodings --record` make these")
        }
        Remedy::MakeExitRecord => ("", "; `coprof exits --record` makes it from CIFAR-10"),
        Remedy::MakeEncodingRecord => ("", "; `coprof encodings --record` makes it from CIFAR-10"),
        Remedy::AddEncodingRecord => ("", "; `coprof encodings --record` makes one"),
        Remedy::CompleteEncodingRecord => ("", "; `coprof encodings --record` makes a complete record"),
        Remedy::RemakeRecord => ("", "; make it anew with --record"),
        Remedy::RemakeBothOnSameData => ("", "; make both again with the same --data"),
        Remedy::MakeBothRecords => {
            ("", "; `coprof exits --record` and `coprof encodings --record` make both")
        }
        Remedy::MakeBothRecordsHere => {
            ("", "; `coprof exits --record` and `coprof encodings --record` make records on them")
        }
        Remedy::GatherEvidence => (
            "",
            "\n--data INPUTS measures agreement with the uncut model, `coprof exits --record` accuracy on CIFAR-10",
        ),
        Remedy::SearchLonger => ("", "\ngive it more time with --search-time"),
        Remedy::SayArrival => ("--p99-below needs --arrival: ", ""),
        Remedy::NameInputShape => ("", "; name it with --input-shape, such as 1x3x224x224"),
        Remedy::NameExits => ("", "; --exits NAME,…,FINAL says which outputs are exits"),
        Remedy::NameAgreement => ("", "; inputs that differ more, or another --agree, say more"),
        Remedy::RunMoreTasks => ("", "; ask for more with --tasks"),
        Remedy::PlanOrNamePlan => {
            ("", "\nrun `coprof optimize` with the same flags first, or name a file with --plan")
        }
        Remedy::NameEdge => ("", "; name the edge with --peer"),
        Remedy::NameRealEdge => ("no --peer: ", ""),
        Remedy::AllowOthers { .. } => {
            ("", "; give it one with --key FILE, or on a network that you trust add --insecure, else listen")
        }
        Remedy::GiveKey => {
            ("", "; if it has one, give it with --key FILE; `coprof serve -v` there tells more")
        }
        Remedy::CheckKey => {
            ("", "; both need the same one (--key FILE there and here), `coprof serve -v` there tells more")
        }
        Remedy::WaitForSession => ("", "; try again later, or wait for one with --wait 10m"),
        Remedy::ListenElsewhere => ("", "; choose another address with --listen"),
    }
}

/// What a message about something given begins with.
fn flag(given: Given) -> &'static str {
    match given {
        Given::Model => "--model ",
        Given::Scenario => "--scenario ",
        Given::Plan => "--plan ",
        Given::Data => "--data ",
        Given::Core => "--core ",
        Given::Threads => "--threads ",
        Given::Peer => "--peer ",
        Given::Key => "--key ",
        Given::InputShape => "--input-shape ",
        Given::Exits => "--exits ",
        Given::Outputs => "--outputs ",
        Given::Agreement => "--agree ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_stand_before_a_message_or_behind_it() {
        let error = |remedy| told(&Error::failed("a message").with(remedy));
        assert_eq!(told(&Error::failed("a message")), "a message");
        assert_eq!(error(Remedy::GiveAnother(Given::Plan)), "--plan a message");
        assert_eq!(error(Remedy::RunMoreTasks), "a message; ask for more with --tasks");
        assert_eq!(
            error(Remedy::AllowOthers { port: 7 }),
            "a message; give it one with --key FILE, or on a network that you trust add --insecure, else listen on \
             127.0.0.1:7"
        );
    }
}
