//! Signed requests of an administrator: what a test sets up on a server and kist never asks for.
#![allow(dead_code, reason = "not every test that includes this file uses all of it")]

use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};

const REGION: &str = "us-east-1";

/// Who signs for S3.
pub struct Admin {
    endpoint: String,
    keys: AwsCredential,
    client: HttpClient,
}

impl Admin {
    pub fn new(endpoint: &str, access: &str, secret: &str) -> Self {
        let keys = AwsCredential { key_id: access.into(), secret_key: secret.into(), token: None };
        Self { endpoint: endpoint.into(), keys, client: client() }
    }

    /// Sends a request to S3; gives status and body of the answer.
    pub async fn s3(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        self.send("s3", method, path, headers, body).await
    }

    /// The same, where only success will do.
    pub async fn done(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
        let (status, answer) = self.s3(method, path, headers, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status}: {answer}");
        answer
    }

    /// Asks for the credentials of a session that may do what `policy` says and no more.
    pub async fn session(&self, policy: &str) -> (String, String, String) {
        let (status, answer) = self.try_session(policy).await;
        assert_eq!(status, 200, "{answer}");
        let part = |name: &str| {
            let (_, rest) = answer.split_once(&format!("<{name}>")).expect("the part is there");
            rest.split('<').next().expect("a part has an end").to_owned()
        };
        (part("AccessKeyId"), part("SecretAccessKey"), part("SessionToken"))
    }

    /// The same; gives status and body of the answer.
    pub async fn try_session(&self, policy: &str) -> (u16, String) {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs([("Action", "AssumeRole"), ("Version", "2011-06-15"), ("Policy", policy)]);
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.send("sts", "POST", "/", &headers, &form.finish()).await
    }

    async fn send(
        &self,
        service: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, String) {
        let mut request = request(method, &format!("{}{path}", self.endpoint), headers, body);
        let signer = AwsAuthorizer::new(&self.keys, service, REGION);
        signer.try_authorize(&mut request, None).expect("the request can be signed");
        answer(&self.client, request).await
    }
}

/// The same once for Azure, with an account's key.
pub async fn azure(account: &str, key: &str, method: &str, address: &str) -> (u16, String) {
    let key = AzureCredential::AccessKey(AzureAccessKey::try_new(key).expect("a key"));
    let mut request = request(method, address, &[], "");
    let signer = AzureAuthorizer::new(&key, account);
    signer.try_authorize(&mut request).expect("the request can be signed");
    answer(&client(), request).await
}

/// A request without any credentials.
pub async fn plain(method: &str, address: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    answer(&client(), request(method, address, headers, body)).await
}

fn client() -> HttpClient {
    let options = ClientOptions::new().with_allow_http(true).with_no_system_certificates(true);
    ReqwestConnector::default().connect(&options).expect("a client")
}

fn request(method: &str, address: &str, headers: &[(&str, &str)], body: &str) -> HttpRequest {
    let mut request = HttpRequest::new(HttpRequestBody::from(body.to_owned()));
    *request.method_mut() = method.parse().expect("a method");
    *request.uri_mut() = address.parse().expect("an address");
    request.headers_mut().insert("content-length", body.len().into());
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().expect("a header's name");
        request.headers_mut().insert(name, value.parse().expect("a header's value"));
    }
    request
}

async fn answer(client: &HttpClient, request: HttpRequest) -> (u16, String) {
    let answer = client.execute(request).await.expect("the server answers");
    let status = answer.status().as_u16();
    let body = answer.into_body().bytes().await.expect("a whole answer");
    (status, String::from_utf8_lossy(&body).into_owned())
}
