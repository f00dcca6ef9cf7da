//! The organization's base: what `[egress]` of boatyard.toml says.

use anyhow::Context as _;
use boatyard_egress::{
    Cidr, Guard, Rule, RuleSet,
    rules::{Action, Below, Layer, Scope, text},
};
use boatyard_model::{EgressMode, RuleSpec};

use crate::settings::Settings;

/// A rule of the settings.
#[derive(Debug, Clone)]
pub struct BaseRule {
    /// The key that it stands under.
    pub key: &'static str,
    /// What it says.
    pub spec: RuleSpec,
    /// What it is called in records.
    pub name: String,
}

/// What the settings say.
#[derive(Debug, Clone)]
pub struct Base {
    rules: Vec<BaseRule>,
    compiled: Vec<Rule>,
    mode: EgressMode,
    below: Below,
    guard: Guard,
    is_offline: bool,
}

impl Base {
    /// Reads them.
    ///
    /// # Errors
    /// The key that makes no sense, what is wrong there, and what mends it.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let egress = &settings.egress;
        let mut rules = Vec::new();
        for name in &egress.presets {
            let key = "presets";
            let (spec, name) = (RuleSpec::preset(name), format!("preset {name}"));
            rules.push(BaseRule { key, spec, name });
        }
        let lines = [
            ("allow", Action::Allow, &egress.allow),
            ("ask", Action::Ask, &egress.ask),
            ("deny", Action::Deny, &egress.deny),
        ];
        for (key, action, lines) in lines {
            for line in lines {
                let spec = text::parse(line).map_err(|fault| broken(key, line, &fault))?;
                let name = format!("[egress] {key}: {line}");
                rules.push(BaseRule { key, spec: spec.with_action(action), name });
            }
        }
        let mut compiled = Vec::new();
        for BaseRule { key, spec, name } in &rules {
            let made = Rule::from_spec(name, spec);
            compiled.extend(made.map_err(|fault| broken(key, &spec.to_string(), &fault))?);
        }
        let mut allowed = Vec::new();
        for range in &egress.allow_private {
            let range: Cidr = range.parse().with_context(|| {
                format!(
                    "[egress] allow_private in boatyard.toml is wrong at `{range}`: write networks \
                     as \"10.0.0.0/8\""
                )
            })?;
            allowed.push(range);
        }
        let mode = egress
            .mode
            .parse()
            .map_err(|error| anyhow::anyhow!("[egress] mode in boatyard.toml is wrong: {error}"))?;
        Ok(Self {
            rules,
            compiled,
            mode,
            below: if egress.widen { Below::MayWiden } else { Below::MayNarrow },
            guard: Guard::new(allowed),
            is_offline: egress.offline,
        })
    }

    /// The organization's layer as far as the settings make it.
    pub fn layer(&self) -> Layer {
        let mut layer = Layer::new(Scope::Organization, self.compiled.clone());
        layer.mode = Some(self.mode);
        layer.below = self.below;
        layer
    }

    /// The rules that stand there.
    pub fn rules(&self) -> &[BaseRule] {
        &self.rules
    }

    /// What becomes of what no rule is about.
    pub const fn mode(&self) -> EgressMode {
        self.mode
    }

    /// Whether narrower scopes may open what is closed here.
    pub fn widen(&self) -> bool {
        self.below == Below::MayWiden
    }

    /// Which addresses may be reached.
    pub const fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Whether nothing leaves at all.
    pub const fn is_offline(&self) -> bool {
        self.is_offline
    }
}

fn broken(key: &str, line: &str, fault: &text::Fault) -> anyhow::Error {
    let line: String = line.chars().take(100).collect();
    anyhow::anyhow!(
        "[egress] {key} in boatyard.toml is wrong at \"{line}\": {fault}; {}",
        fault.mend
    )
}

/// The rules of the settings, behind these.
///
/// # Errors
/// When `[egress]` makes no sense.
pub(crate) fn rules(settings: &Settings, mut allow: Vec<Rule>) -> anyhow::Result<RuleSet> {
    allow.extend(Base::new(settings)?.compiled);
    Ok(RuleSet::new(allow))
}
