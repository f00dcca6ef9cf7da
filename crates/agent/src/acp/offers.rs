//! The modes and models that an agent offers, and choosing among them.

use std::time::Duration;

use boatyard_model::{AgentOffers, agent::Steer, event::NoticeLevel};
use serde_json::{Value, json};

use super::{Actor, Stop, failure::rpc_text};
use crate::{capture::prefix, driver::Choice};

/// Choosing a mode or model.
const SETTING: Duration = Duration::from_secs(15);
/// How many modes or models are passed on.
const CHOICES: usize = 200;
/// How many of them are named in a sentence.
const NAMED: usize = 12;

/// What the agent of the present process offers.
#[derive(Debug, Default)]
pub(super) struct Offers {
    pub(super) images: bool,
    /// It takes a second prompt in mid-turn.
    pub(super) queues_prompts: bool,
    pub(super) modes: Vec<Choice>,
    pub(super) mode: Option<String>,
    pub(super) models: Vec<Choice>,
    pub(super) model: Option<String>,
    /// How modes and models are chosen.
    mode_by: By,
    model_by: By,
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
        if let Err(error) = self.call(method, params, SETTING).await? {
            self.setting_refused(choosing, &rpc_text(&error));
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
    }

    /// Takes what an update tells of the mode and model, and tells of what the agent changed.
    pub(super) fn changed(&mut self, update: &Value) {
        let mut changes: Vec<(Setting, &Value)> = Vec::new();
        match update["sessionUpdate"].as_str() {
            Some("current_mode_update") => {
                changes.push((Setting::Mode, &update["currentModeId"]));
            }
            Some("config_option_update") => {
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
        for (setting, value) in changes {
            let Some(value) = value.as_str().filter(|value| !value.is_empty()) else { continue };
            let value = prefix(value, 200);
            let before = self.offers.current(setting).replace(value.to_owned());
            // What it was in at first is in the session.
            if before.is_some_and(|before| before != value) {
                let choice = self.offers.list(setting).iter().find(|choice| choice.id == value);
                let name = choice.map_or(value, |choice| &choice.name);
                let text = format!("The agent changed its {} to `{name}`.", setting.word());
                let data = Some(json!({ "id": value }));
                self.normal.sink.notice_with(NoticeLevel::Info, setting.word(), text, data);
            }
        }
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
        let mut offers = Self {
            images: can["promptCapabilities"]["image"] == true,
            queues_prompts: queues(&can["_meta"]),
            ..Self::default()
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let modes = &session["modes"];
        if modes["availableModes"].is_array() {
            offers.modes = choices(&modes["availableModes"], "id");
            offers.mode = text(&modes["currentModeId"]);
            offers.mode_by = By::Method;
        }
        let models = &session["models"];
        if models["availableModels"].is_array() {
            offers.models = choices(&models["availableModels"], "modelId");
            offers.model = text(&models["currentModelId"]);
            offers.model_by = By::Method;
        }
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
        offers
    }

    /// All of it, for those who may choose.
    pub(super) fn told(&self, version: Option<String>, resume: bool) -> AgentOffers {
        AgentOffers {
            version,
            modes: self.modes.clone(),
            mode: self.mode.clone(),
            models: self.models.clone(),
            model: self.model.clone(),
            images: self.images,
            steer: if self.queues_prompts { Steer::Prompt } else { Steer::Restart },
            resume,
        }
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

fn choices(list: &Value, key: &str) -> Vec<Choice> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let list = list.iter().take(CHOICES).filter_map(|choice| {
        let id = choice[key].as_str()?;
        let name = choice["name"].as_str().unwrap_or(id);
        Some(Choice { id: prefix(id, 200).to_owned(), name: prefix(name, 200).to_owned() })
    });
    list.collect()
}
