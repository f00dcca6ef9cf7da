//! The modes and models that an agent offers, and choosing among them.

use std::time::Duration;

use boatyard_model::{
    AgentOffers,
    agent::{Capabilities, Steer},
    event::NoticeLevel,
};
use serde_json::{Value, json};

use super::{Actor, Stop, failure::rpc_text};
use crate::{
    capture::prefix,
    driver::{Choice, Output},
};

/// Choosing a mode or model.
pub(super) const SETTING: Duration = Duration::from_secs(15);
/// How many modes or models are passed on.
const CHOICES: usize = 200;
/// How many of them are named in a sentence.
const NAMED: usize = 12;

/// What the agent of the present process offers.
#[derive(Debug, Default)]
pub(super) struct Offers {
    pub(super) images: bool,
    /// How a message gets into a running turn.
    pub(super) steering: Steering,
    /// The program's own name and version.
    pub(super) version: Option<String>,
    /// It can take up an earlier conversation by itself.
    pub(super) resume: bool,
    pub(super) modes: Vec<Choice>,
    pub(super) mode: Option<String>,
    pub(super) models: Vec<Choice>,
    pub(super) model: Option<String>,
    /// How modes and models are chosen.
    mode_by: By,
    model_by: By,
}

/// How a message gets into a running turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Steering {
    /// The turn is cancelled and begun again.
    #[default]
    Restart,
    /// As a second prompt.
    Prompt,
    /// By a request of its own, which Claude's and Codex's adapters offer.
    Request,
}

/// How something is chosen.
#[derive(Debug, Default, Clone)]
enum By {
    /// Not at all.
    #[default]
    Nothing,
    /// By a request of its own.
    Method,
    /// As a configuration option with this id.
    Option(String),
}

/// What is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    Mode,
    Model,
}

/// A choice under way.
#[derive(Debug)]
pub(super) struct Choosing {
    setting: Setting,
    value: String,
    /// What was chosen before.
    before: Option<String>,
}

impl Actor {
    /// Chooses and waits for it to be done.
    pub(super) async fn choose_now(&mut self, setting: Setting, value: &str) -> Result<(), Stop> {
        if self.offers.has(setting, value) == Some(true) {
            return Ok(());
        }
        let Some((method, params)) = self.choice(setting, value) else { return Ok(()) };
        let choosing = self.choosing(setting, value);
        match self.call(method, params, SETTING).await? {
            // It is told with all else that the session offers.
            Ok(result) => self.offers.take(&result),
            Err(error) => self.setting_refused(choosing, &rpc_text(&error)),
        }
        Ok(())
    }

    /// Chooses without waiting; a refusal is told later.
    pub(super) fn choose(&mut self, setting: Setting, value: &str) {
        if self.link.is_none() {
            return;
        }
        if let Some((method, params)) = self.choice(setting, value)
            && let Some(id) = self.request(method, params)
        {
            let choosing = self.choosing(setting, value);
            self.settings.insert(id, choosing);
        }
    }

    /// Takes a choice for made, so that the agent's telling of it is nothing new.
    fn choosing(&mut self, setting: Setting, value: &str) -> Choosing {
        let before = self.offers.current(setting).replace(value.to_owned());
        Choosing { setting, value: value.to_owned(), before }
    }

    /// The agent took a choice that somebody made while it ran.
    pub(super) fn setting_taken(&mut self, choosing: Choosing, result: &Value) {
        self.offers.take(result);
        let Choosing { setting, value, .. } = choosing;
        let name = self.offers.name(setting, &value);
        let text = format!("The agent's {} is now `{name}`.", setting.word());
        let data = Some(json!({ "id": value }));
        self.normal.sink.notice_with(NoticeLevel::Info, setting.word(), text, data);
        self.tell_offers();
    }

    fn tell_offers(&mut self) {
        self.normal.sink.output(Output::Offers(self.offers.told()));
    }

    /// The agent did not take a choice.
    pub(super) fn setting_refused(&mut self, choosing: Choosing, why: &str) {
        let Choosing { setting, value, before } = choosing;
        let now = self.offers.current(setting);
        if now.as_deref() == Some(value.as_str()) {
            *now = before;
        }
        let offered = self.offers.named(setting).unwrap_or_default();
        let text = format!("The agent did not take {}: {why}.{offered}", setting.name(&value));
        self.normal.sink.notice(NoticeLevel::Warning, "setting_refused", text);
        if self.has_session() {
            self.tell_offers();
        }
    }

    /// Takes what an update tells of the mode and model, and tells of what the agent changed.
    pub(super) fn changed(&mut self, update: &Value) {
        let mut changes: Vec<(Setting, &Value)> = Vec::new();
        match update["sessionUpdate"].as_str() {
            Some("current_mode_update") => {
                changes.push((Setting::Mode, &update["currentModeId"]));
            }
            Some("config_option_update") => {
                self.offers.take(update);
                let options = update["configOptions"].as_array().map(Vec::as_slice);
                for option in options.unwrap_or_default() {
                    match option["category"].as_str() {
                        Some("mode") => changes.push((Setting::Mode, &option["currentValue"])),
                        Some("model") => changes.push((Setting::Model, &option["currentValue"])),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        let before = self.offers.told();
        for (setting, value) in changes {
            let Some(value) = value.as_str().filter(|value| !value.is_empty()) else { continue };
            let value = prefix(value, 200);
            let before = self.offers.current(setting).replace(value.to_owned());
            // What it was in at first is in the session.
            if self.has_session() && before.is_some_and(|before| before != value) {
                let name = self.offers.name(setting, value);
                let text = format!("The agent changed its {} to `{name}`.", setting.word());
                let data = Some(json!({ "id": value }));
                self.normal.sink.notice_with(NoticeLevel::Info, setting.word(), text, data);
            }
        }
        // Before the session is told, all of it is told with it.
        if self.has_session() && self.offers.told() != before {
            self.tell_offers();
        }
    }

    /// Whether [`Output::Session`] was told of this process.
    fn has_session(&self) -> bool {
        self.up
    }

    fn choice(&mut self, setting: Setting, value: &str) -> Option<(&'static str, Value)> {
        // Models may be more than are listed; modes are what the agent has.
        if setting == Setting::Mode
            && let Some(offered) = self.offers.named(setting)
            && !self.offers.modes.iter().any(|mode| mode.id == value)
        {
            let stays = match &self.offers.mode {
                Some(mode) => format!(" It stays in `{mode}`."),
                None => String::new(),
            };
            let text = format!("The agent does not offer {}.{offered}{stays}", setting.name(value));
            self.normal.sink.notice(NoticeLevel::Warning, "setting_refused", text);
            return None;
        }
        let session = &self.session;
        let (by, method, key) = match setting {
            Setting::Mode => (&self.offers.mode_by, "session/set_mode", "modeId"),
            Setting::Model => (&self.offers.model_by, "session/set_model", "modelId"),
        };
        match by {
            By::Method => Some((method, json!({ "sessionId": session, key: value }))),
            By::Option(id) => Some((
                "session/set_config_option",
                json!({ "sessionId": session, "configId": id, "value": value }),
            )),
            By::Nothing => {
                let text = format!("The agent offers no choice of {}.", setting.word());
                self.normal.sink.notice(NoticeLevel::Warning, "setting_refused", text);
                None
            }
        }
    }
}

impl Setting {
    fn word(self) -> &'static str {
        match self {
            Self::Mode => "mode",
            Self::Model => "model",
        }
    }

    fn name(self, value: &str) -> String {
        format!("the {} `{}`", self.word(), prefix(value, 200))
    }
}

impl Offers {
    pub(super) fn read(hello: &Value, session: &Value) -> Self {
        let can = &hello["agentCapabilities"];
        let queues = |meta: &Value| {
            meta.as_object().is_some_and(|m| m.values().any(|v| v["promptQueueing"] == true))
        };
        let steering = if hello["_meta"]["steering"]["supported"] == true {
            Steering::Request
        } else if queues(&can["_meta"]) {
            Steering::Prompt
        } else {
            Steering::Restart
        };
        let mut offers = Self {
            images: can["promptCapabilities"]["image"] == true,
            steering,
            version: version(&hello["agentInfo"]),
            resume: !can["sessionCapabilities"]["resume"].is_null() || can["loadSession"] == true,
            ..Self::default()
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        // Options came later than the two methods and go before them: Codex takes a model by its bare
        // name only as an option.
        for option in session["configOptions"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let Some(id) = text(&option["id"]) else { continue };
            let (by, list, current) = match option["category"].as_str() {
                Some("mode") => (&mut offers.mode_by, &mut offers.modes, &mut offers.mode),
                Some("model") => (&mut offers.model_by, &mut offers.models, &mut offers.model),
                _ => continue,
            };
            if matches!(by, By::Nothing) {
                *by = By::Option(id);
                *list = choices(&option["options"], "value");
                *current = text(&option["currentValue"]);
            }
        }
        let modes = &session["modes"];
        if matches!(offers.mode_by, By::Nothing) && modes["availableModes"].is_array() {
            offers.modes = choices(&modes["availableModes"], "id");
            offers.mode = text(&modes["currentModeId"]);
            offers.mode_by = By::Method;
        }
        let models = &session["models"];
        if matches!(offers.model_by, By::Nothing) && models["availableModels"].is_array() {
            offers.models = choices(&models["availableModels"], "modelId");
            offers.model = text(&models["currentModelId"]);
            offers.model_by = By::Method;
        }
        offers
    }

    /// All of it, for those who may choose.
    pub(super) fn told(&self) -> AgentOffers {
        AgentOffers {
            version: self.version.clone(),
            modes: self.modes.clone(),
            mode: self.mode.clone(),
            models: self.models.clone(),
            model: self.model.clone(),
            images: self.images,
            steer: match self.steering {
                Steering::Restart => Steer::Restart,
                Steering::Prompt | Steering::Request => Steer::Prompt,
            },
            resume: self.resume,
        }
    }

    /// Leaves only what the catalogue's hints allow.
    pub(super) fn limit(&mut self, hints: &Capabilities) {
        self.images &= hints.images;
        self.resume &= hints.resume;
        self.steering = match (hints.steer, self.steering) {
            (Steer::Probe, found) => found,
            (Steer::Prompt, Steering::Restart) => Steering::Prompt,
            (Steer::Prompt, found) => found,
            (Steer::Restart, _) => Steering::Restart,
        };
    }

    /// Takes the configuration options that come with an answer or an update: what can be chosen may
    /// depend on what is chosen.
    pub(super) fn take(&mut self, told: &Value) {
        for option in told["configOptions"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let (by, list) = match option["category"].as_str() {
                Some("mode") => (&self.mode_by, &mut self.modes),
                Some("model") => (&self.model_by, &mut self.models),
                _ => continue,
            };
            let ours = matches!(by, By::Option(id) if option["id"] == id.as_str());
            let new = choices(&option["options"], "value");
            if ours && !new.is_empty() {
                *list = new;
            }
        }
    }

    /// What people call a choice.
    fn name(&self, setting: Setting, value: &str) -> String {
        let choice = self.list(setting).iter().find(|choice| choice.id == value);
        prefix(choice.map_or(value, |choice| &choice.name), 200).to_owned()
    }

    /// Whether this is chosen already; none if it is not known what is.
    fn has(&self, setting: Setting, value: &str) -> Option<bool> {
        let current = match setting {
            Setting::Mode => &self.mode,
            Setting::Model => &self.model,
        };
        current.as_deref().map(|current| current == value)
    }

    fn list(&self, setting: Setting) -> &[Choice] {
        match setting {
            Setting::Mode => &self.modes,
            Setting::Model => &self.models,
        }
    }

    /// A sentence with what is offered; none where that is not known as a whole.
    fn named(&self, setting: Setting) -> Option<String> {
        let list = self.list(setting);
        if list.is_empty() || list.len() == CHOICES {
            return None;
        }
        let names: Vec<_> = list.iter().take(NAMED).map(|c| format!("`{}`", c.id)).collect();
        let more = if list.len() > NAMED { ", …" } else { "" };
        Some(format!(" It offers {}{more}.", names.join(", ")))
    }

    fn current(&mut self, setting: Setting) -> &mut Option<String> {
        match setting {
            Setting::Mode => &mut self.mode,
            Setting::Model => &mut self.model,
        }
    }
}

/// The program's own name and version.
fn version(info: &Value) -> Option<String> {
    let name = info["title"].as_str().or(info["name"].as_str())?;
    let text = match info["version"].as_str() {
        Some(version) => format!("{name} {version}"),
        None => name.to_owned(),
    };
    Some(prefix(&text, 200).to_owned())
}

fn choices(list: &Value, key: &str) -> Vec<Choice> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let list = list.iter().take(CHOICES).filter_map(|choice| {
        let id = choice[key].as_str()?;
        let name = choice["name"].as_str().unwrap_or(id);
        Some(Choice { id: prefix(id, 200).to_owned(), name: prefix(name, 200).to_owned() })
    });
    list.collect()
}
