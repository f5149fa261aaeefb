//! Notices by mail (SMTP, RFC 5321), through the server that the operator names.
//!
//! The server is the operator's, not a function's, so the network policy of functions does not hold for it. One message is
//! one connection: notices are rare.

use std::time::Duration;

use alula_invoke::later::{CourierError, Delivery};
use bytes::Bytes;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use serde::Deserialize;

use crate::MailOptions;

/// Why mail cannot be sent as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The server's address is none.
    #[error("mail.url is not the address of a mail server")]
    Url(#[source] lettre::transport::smtp::Error),
    /// The sender's address is none.
    #[error("mail.from is not an address such as 'Alula <alula@example.org>'")]
    From(#[source] lettre::address::AddressError),
    /// The password cannot be read.
    #[error("mail.password_file cannot be read")]
    Password(#[source] std::io::Error),
}

/// Sends mail.
#[derive(Debug, Clone)]
pub(crate) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// What the queue holds of a mail.
#[derive(Debug, Deserialize)]
struct Letter {
    subject: String,
    text: String,
}

impl Mailer {
    /// A mailer as `options` have it; `None` where no server is named.
    pub(crate) fn open(options: &MailOptions, timeout: Duration) -> Result<Option<Self>, MailError> {
        if !options.is_set() {
            return Ok(None);
        }
        let transport =
            AsyncSmtpTransport::<Tokio1Executor>::from_url(&options.url).map_err(MailError::Url)?;
        let transport = match options.password_file.as_os_str().is_empty() {
            true => transport,
            false => {
                let password =
                    std::fs::read_to_string(&options.password_file).map_err(MailError::Password)?;
                transport.credentials(Credentials::new(user_of(&options.url), password.trim().to_owned()))
            }
        };
        let from = options.from.parse().map_err(MailError::From)?;
        Ok(Some(Self { transport: transport.timeout(Some(timeout)).build(), from }))
    }

    /// Sends what `body` says to the address of a `mailto:` delivery.
    pub(crate) async fn send(
        &self,
        address: &str,
        delivery: &Delivery,
        body: &Bytes,
    ) -> Result<(), CourierError> {
        let last = |error: &dyn std::fmt::Display| CourierError::Final(format!("it is no mail: {error}"));
        let letter: Letter = serde_json::from_slice(body).map_err(|error| last(&error))?;
        let to: Mailbox = address.parse().map_err(|error| last(&error))?;
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(letter.subject)
            // The same however often it is sent, so that a mailbox can tell a repeat.
            .message_id(Some(format!("<{}.{}@alula>", delivery.about, digest(address))))
            .header(ContentType::TEXT_PLAIN)
            .body(letter.text)
            .map_err(|error| last(&error))?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => {
                Err(CourierError::Final(format!("the mail server refused it: {}", causes(&error))))
            }
            Err(error) => {
                Err(CourierError::Passing(format!("the mail server did not take it: {}", causes(&error))))
            }
        }
    }
}

/// The user that stands in an address, percent-decoded.
fn user_of(url: &str) -> String {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user.split(':').next().unwrap_or_default());
    let mut bytes = Vec::new();
    let mut rest = user;
    while let Some(first) = rest.chars().next() {
        let digits = rest.strip_prefix('%').and_then(|rest| rest.get(..2));
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            rest = &rest[3..];
        } else {
            bytes.extend_from_slice(first.to_string().as_bytes());
            rest = &rest[first.len_utf8()..];
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn digest(address: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(address.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn causes(error: &lettre::transport::smtp::Error) -> String {
    let sources = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    sources.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use alula_invoke::later::DeliveryKind;
    use alula_model::InvocationId;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    fn delivery() -> Delivery {
        let (kind, about) = (DeliveryKind::Notice, InvocationId::new("call-1").unwrap());
        Delivery { kind, url: "mailto:ada@example.org".to_owned(), headers: Vec::new(), about }
    }

    fn letter() -> Bytes {
        serde_json::json!({"subject": "hello: calls are given up", "text": "Why: bäd\n.\nend"})
            .to_string()
            .into()
    }

    fn options(url: &str) -> MailOptions {
        MailOptions {
            url: url.to_owned(),
            from: "Alula <alula@example.org>".to_owned(),
            ..MailOptions::default()
        }
    }

    /// A mail server that takes one message, answering `to_recipient` to RCPT; gives all that it was told.
    async fn server(to_recipient: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let (mut told, mut in_data) = (String::new(), false);
            stream.write_all(b"220 test\r\n").await.unwrap();
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return told;
                }
                told.push_str(&line);
                let verb = line.split([' ', '\r']).next().unwrap_or_default().to_owned();
                let answer = match (in_data, verb.as_str()) {
                    (true, ".") => {
                        in_data = false;
                        "250 taken"
                    }
                    (true, _) => continue,
                    (false, "RCPT") => to_recipient,
                    (false, "DATA") => {
                        in_data = true;
                        "354 go on"
                    }
                    (false, "QUIT") => "221 bye",
                    (false, "EHLO") => "250-test\r\n250 AUTH PLAIN",
                    (false, "AUTH") => "235 known",
                    _ => "250 fine",
                };
                stream.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
            }
        });
        (port, serving)
    }

    async fn sent(options: &MailOptions) -> Result<(), CourierError> {
        let mailer = Mailer::open(options, Duration::from_secs(30)).unwrap().unwrap();
        mailer.send("ada@example.org", &delivery(), &letter()).await
    }

    #[tokio::test]
    async fn a_notice_reaches_the_mail_server() {
        let (port, server) = server("250 fine").await;
        sent(&options(&format!("smtp://127.0.0.1:{port}"))).await.unwrap();
        let told = server.await.unwrap();
        for part in [
            "MAIL FROM:<alula@example.org>",
            "RCPT TO:<ada@example.org>",
            "Subject: hello: calls are given up",
            "To: ada@example.org",
            "Message-ID: <call-1.",
            "\r\n..\r\n",
        ] {
            assert!(told.contains(part), "{part} is missing in {told}");
        }
    }

    #[tokio::test]
    async fn the_password_may_come_from_a_file() {
        let (port, server) = server("250 fine").await;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"secret\n").unwrap();
        let url = format!("smtp://us%40er@127.0.0.1:{port}");
        sent(&MailOptions { password_file: file.path().to_owned(), ..options(&url) }).await.unwrap();
        // RFC 4616: NUL, user, NUL, password.
        let expect = "AUTH PLAIN AHVzQGVyAHNlY3JldA==";
        assert!(server.await.unwrap().contains(expect));
    }

    #[tokio::test]
    async fn what_may_pass_is_told_from_what_is_final() {
        let (port, _server) = server("550 no such user").await;
        let refused = sent(&options(&format!("smtp://127.0.0.1:{port}"))).await;
        assert!(
            matches!(&refused, Err(CourierError::Final(why)) if why.contains("no such user")),
            "{refused:?}"
        );
        let (port, _server) = server("451 try later").await;
        let busy = sent(&options(&format!("smtp://127.0.0.1:{port}"))).await;
        assert!(matches!(&busy, Err(CourierError::Passing(why)) if why.contains("try later")), "{busy:?}");
        let nobody = sent(&options("smtp://127.0.0.1:1")).await;
        assert!(matches!(nobody, Err(CourierError::Passing(_))), "{nobody:?}");
    }

    #[test]
    fn what_cannot_work_is_refused_at_the_start() {
        let open = |options: &MailOptions| Mailer::open(options, Duration::from_secs(1));
        assert!(open(&MailOptions::default()).unwrap().is_none());
        assert!(matches!(open(&options("http://mail")), Err(MailError::Url(_))));
        let nobody = MailOptions { from: "nobody".to_owned(), ..options("smtp://mail") };
        assert!(matches!(open(&nobody), Err(MailError::From(_))));
        let no_file = MailOptions { password_file: "/no/such/file".into(), ..options("smtp://a@mail") };
        assert!(matches!(open(&no_file), Err(MailError::Password(_))));
    }
}
