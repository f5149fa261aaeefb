//! Who may do what: namespaces, people, keys and roles.

use alula_wire::query::{InApp, Keys, OfUser};
use alula_wire::{
    AccessInfo, KeyList, LoginAnswer, LoginRequest, NamespaceInfo, NamespaceList, NewAccess, NewKey,
    NewKeyRequest, NewNamespace, NewPassword, NewSignedUrl, NewUser, PasswordRequest, RotateRequest,
    SessionList, SignedUrl, UserInfo, UserList, WhoAmI,
};
use http::Method;

use crate::{Client, Result};

impl Client {
    /// Whose token this is, and what it may.
    pub async fn whoami(&self) -> Result<WhoAmI> {
        self.fetch(self.request(Method::GET, &["v1", "whoami"])).await
    }

    /// The namespaces that the token's owner has a role in.
    pub async fn namespaces(&self) -> Result<NamespaceList> {
        self.fetch(self.request(Method::GET, &["v1", "namespaces"])).await
    }

    /// Makes a namespace known.
    pub async fn create_namespace(&self, name: &str, new: &NewNamespace) -> Result<NamespaceInfo> {
        self.fetch(self.request(Method::PUT, &["v1", "namespaces", name]).json(new)).await
    }

    /// Forgets a namespace without functions.
    pub async fn remove_namespace(&self, name: &str) -> Result<()> {
        self.done(self.request(Method::DELETE, &["v1", "namespaces", name])).await
    }

    /// Everybody.
    pub async fn users(&self) -> Result<UserList> {
        self.fetch(self.request(Method::GET, &["v1", "users"])).await
    }

    /// Makes a person known.
    pub async fn create_user(&self, name: &str, new: &NewUser) -> Result<UserInfo> {
        self.fetch(self.request(Method::PUT, &["v1", "users", name]).json(new)).await
    }

    /// Forgets a person and their keys.
    pub async fn remove_user(&self, name: &str) -> Result<()> {
        self.done(self.request(Method::DELETE, &["v1", "users", name])).await
    }

    /// Refuses a person's keys until they are enabled again.
    pub async fn disable_user(&self, name: &str) -> Result<()> {
        self.done(self.request(Method::POST, &["v1", "users", name, "disable"])).await
    }

    /// Takes a person's keys again.
    pub async fn enable_user(&self, name: &str) -> Result<()> {
        self.done(self.request(Method::POST, &["v1", "users", name, "enable"])).await
    }

    /// Who has a role in the namespace.
    pub async fn members(&self) -> Result<UserList> {
        self.get(&["v1", "members"], &self.here()).await
    }

    /// Gives a person a role in the namespace, or in one app of it.
    pub async fn give_role(&self, user: &str, role: &str, app: Option<&str>) -> Result<()> {
        let request = self.request(Method::PUT, &["v1", "members", user, role]);
        self.done(request.query(&self.in_app(app))).await
    }

    /// Takes a role from a person.
    pub async fn take_role(&self, user: &str, role: &str, app: Option<&str>) -> Result<()> {
        let request = self.request(Method::DELETE, &["v1", "members", user, role]);
        self.done(request.query(&self.in_app(app))).await
    }

    /// The keys of the namespace, or of a person.
    pub async fn keys(&self, user: Option<&str>) -> Result<KeyList> {
        let namespace = self.here().namespace;
        self.get(&["v1", "keys"], &Keys { namespace, user: user.map(str::to_owned) }).await
    }

    /// Makes a key. It is in the answer and nowhere else.
    pub async fn create_key(&self, new: &NewKeyRequest) -> Result<NewKey> {
        self.fetch(self.request(Method::POST, &["v1", "keys"]).query(&self.here()).json(new)).await
    }

    /// Gives a key another secret.
    pub async fn rotate_key(&self, id: &str, request: &RotateRequest) -> Result<NewKey> {
        self.fetch(self.request(Method::POST, &["v1", "keys", id, "rotate"]).json(request)).await
    }

    /// Takes a key back.
    pub async fn revoke_key(&self, id: &str) -> Result<()> {
        self.done(self.request(Method::DELETE, &["v1", "keys", id])).await
    }

    /// Logs in.
    pub async fn log_in(&self, request: &LoginRequest) -> Result<LoginAnswer> {
        self.fetch(self.request(Method::POST, &["v1", "login"]).json(request)).await
    }

    /// Ends the session whose token this client has.
    pub async fn log_out(&self) -> Result<()> {
        self.done(self.request(Method::POST, &["v1", "logout"])).await
    }

    /// Changes a password. All sessions of the person end.
    pub async fn change_password(&self, request: &PasswordRequest) -> Result<()> {
        self.done(self.request(Method::POST, &["v1", "password"]).json(request)).await
    }

    /// Makes a password for a person, good for its own change.
    pub async fn reset_password(&self, user: &str) -> Result<NewPassword> {
        self.fetch(self.request(Method::POST, &["v1", "users", user, "password"])).await
    }

    /// Takes a person's password away.
    pub async fn remove_password(&self, user: &str) -> Result<()> {
        self.done(self.request(Method::DELETE, &["v1", "users", user, "password"])).await
    }

    /// The sessions of a person, or one's own.
    pub async fn sessions(&self, user: Option<&str>) -> Result<SessionList> {
        self.get(&["v1", "sessions"], &OfUser { user: user.map(str::to_owned) }).await
    }

    /// Ends a session.
    pub async fn end_session(&self, id: &str) -> Result<()> {
        self.done(self.request(Method::DELETE, &["v1", "sessions", id])).await
    }

    /// Who may call functions of the namespace that do not say so themselves.
    pub async fn access(&self) -> Result<AccessInfo> {
        self.get(&["v1", "access"], &self.here()).await
    }

    /// Says who may.
    pub async fn set_access(&self, new: &NewAccess) -> Result<AccessInfo> {
        self.fetch(self.request(Method::PUT, &["v1", "access"]).query(&self.here()).json(new)).await
    }

    /// Signs an address of a function.
    pub async fn sign_url(&self, function: &str, new: &NewSignedUrl) -> Result<SignedUrl> {
        let request = self.request(Method::POST, &["v1", "functions", function, "signed-urls"]);
        self.fetch(request.query(&self.here()).json(new)).await
    }

    /// Has addresses of the namespace signed with another key.
    pub async fn rotate_url_key(&self, request: &RotateRequest) -> Result<()> {
        let rotate = self.request(Method::POST, &["v1", "url-keys", "rotate"]);
        self.done(rotate.query(&self.here()).json(request)).await
    }

    fn in_app(&self, app: Option<&str>) -> InApp {
        InApp { namespace: self.here().namespace, app: app.map(str::to_owned) }
    }
}
