//! Rules of egress, and what is set for the scopes that they are in.
//!
//! A rule is kept as it was written, as JSON: what it means is the crate `egress`'s to say, and a
//! rule that a newer release wrote must be found, not lost.

use boatyard_model::{
    EgressMode, OrganizationId, RepositoryId, RuleId, RuleScope, RuleSpec, Timestamp, WorkspaceId,
};

use crate::{
    Owner, Result, Store, Tx,
    conn::{exec, find, read_all, read_one},
    row::{json, record},
};

/// For what a rule or setting holds, with the thing that it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RulePlace {
    /// Everything.
    Organization,
    /// The workspaces of one repository.
    Repository(RepositoryId),
    /// One workspace.
    Workspace(WorkspaceId),
}

impl RulePlace {
    /// How wide it is.
    pub const fn scope(self) -> RuleScope {
        match self {
            Self::Organization => RuleScope::Organization,
            Self::Repository(_) => RuleScope::Repository,
            Self::Workspace(_) => RuleScope::Workspace,
        }
    }

    /// As it stands in the database: no part of a key may be null.
    pub(crate) fn place(self) -> String {
        match self {
            Self::Organization => String::new(),
            Self::Repository(id) => id.to_string(),
            Self::Workspace(id) => id.to_string(),
        }
    }
}

record! {
    /// A rule.
    #[derive(Debug, Clone)]
    pub struct RuleRow [owned] {
        /// Its id.
        pub id: RuleId,
        /// How far it holds.
        pub scope: RuleScope,
        /// The repository or workspace that it is for; empty for the organization.
        pub place: String,
        /// What it says, as JSON of a [`RuleSpec`].
        pub rule: String,
        /// When it ends by itself.
        pub expires: Option<Timestamp>,
        /// When it was made.
        pub created: Timestamp,
    }
}

impl RuleRow {
    /// What it is for; none if a newer release wrote it.
    pub fn place(&self) -> Option<RulePlace> {
        Some(match self.scope {
            RuleScope::Organization => RulePlace::Organization,
            RuleScope::Repository => RulePlace::Repository(self.place.parse().ok()?),
            RuleScope::Workspace => RulePlace::Workspace(self.place.parse().ok()?),
        })
    }
}

record! {
    /// What is set for a scope beside its rules.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct ScopeRow {
        /// What becomes of what no rule is about.
        pub mode: Option<EgressMode>,
        /// Whether narrower scopes may open what this one leaves closed.
        pub widen: Option<bool>,
    }
}

/// A rule that is about to be made.
#[derive(Debug, Clone)]
pub struct NewRule {
    /// Its id.
    pub id: RuleId,
    /// Whose it is.
    pub owner: Owner,
    /// What it is for.
    pub place: RulePlace,
    /// What it says.
    pub rule: RuleSpec,
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
}

impl NewRule {
    /// A rule with a new id that doesn't end by itself.
    pub fn new(owner: Owner, place: RulePlace, rule: RuleSpec) -> Self {
        Self { id: RuleId::new(), owner, place, rule, expires: None }
    }
}

impl Tx {
    /// Stores a rule. Who calls this tells the policies afterwards.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn create_rule(&mut self, new: &NewRule) -> Result<()> {
        let now = self.now();
        exec!(
            self,
            "INSERT INTO egress_rule
                 (id, organization, owner, scope, place, rule, expires, created, changed)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
            new.id,
            new.owner.organization,
            new.owner.member,
            new.place.scope().as_str(),
            new.place.place(),
            json(&new.rule)?,
            new.expires,
            now,
        )?;
        self.note("rule", new.id);
        self.note("scope", new.place.scope().as_str());
        Ok(())
    }

    /// Puts other words in a rule's place.
    ///
    /// # Errors
    /// When there is none of this id.
    pub async fn change_rule(
        &mut self,
        id: RuleId,
        rule: &RuleSpec,
        expires: Option<Timestamp>,
    ) -> Result<()> {
        let changed = exec!(
            self,
            "UPDATE egress_rule SET rule = $2, expires = $3, changed = $4 WHERE id = $1",
            id,
            json(rule)?,
            expires,
            self.now(),
        )?;
        found(changed, id)
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// When there is none of this id.
    pub async fn delete_rule(&mut self, id: RuleId) -> Result<()> {
        let gone = exec!(self, "DELETE FROM egress_rule WHERE id = $1", id)?;
        found(gone, id)
    }

    /// How many rules a place has.
    ///
    /// # Errors
    /// When they can't be counted.
    pub async fn count_rules(
        &mut self,
        organization: OrganizationId,
        place: RulePlace,
    ) -> Result<u64> {
        let counted = find!(
            self,
            (u64,),
            "SELECT COUNT(*) FROM egress_rule
             WHERE organization = $1 AND scope = $2 AND place = $3",
            organization,
            place.scope().as_str(),
            place.place(),
        )?;
        Ok(counted.map_or(0, |(count,)| count))
    }

    /// Sets what holds for a scope beside its rules: the whole of it.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn set_rule_scope(
        &mut self,
        owner: Owner,
        place: RulePlace,
        set: &ScopeRow,
    ) -> Result<()> {
        exec!(
            self,
            "INSERT INTO egress_scope (organization, owner, scope, place, mode, widen, changed)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (organization, scope, place)
             DO UPDATE SET owner = $2, mode = $5, widen = $6, changed = $7",
            owner.organization,
            owner.member,
            place.scope().as_str(),
            place.place(),
            set.mode.map(EgressMode::as_str),
            set.widen,
            self.now(),
        )?;
        Ok(())
    }

    /// Gives a workspace the rules and settings of another one, that it is a copy of.
    ///
    /// # Errors
    /// When they can't be stored.
    pub async fn copy_rules(
        &mut self,
        owner: Owner,
        from: WorkspaceId,
        to: WorkspaceId,
    ) -> Result<()> {
        let now = self.now();
        let rows = crate::conn::list!(
            self,
            RuleRow,
            format!(
                "SELECT {} FROM egress_rule
                 WHERE organization = $1 AND scope = 'workspace' AND place = $2
                     AND (expires IS NULL OR expires > $3) ORDER BY number",
                RuleRow::COLUMNS
            ),
            owner.organization,
            from.to_string(),
            now,
        )?;
        for row in rows {
            exec!(
                self,
                "INSERT INTO egress_rule
                     (id, organization, owner, scope, place, rule, expires, created, changed)
                 VALUES ($1, $2, $3, 'workspace', $4, $5, $6, $7, $7)",
                RuleId::new(),
                owner.organization,
                owner.member,
                to.to_string(),
                row.rule,
                row.expires,
                now,
            )?;
        }
        exec!(
            self,
            "INSERT INTO egress_scope (organization, owner, scope, place, mode, widen, changed)
             SELECT organization, $3, scope, $4, mode, widen, $5 FROM egress_scope
             WHERE organization = $1 AND scope = 'workspace' AND place = $2",
            owner.organization,
            from.to_string(),
            owner.member,
            to.to_string(),
            now,
        )?;
        Ok(())
    }

    /// Removes the rules that ended before `time`, and those of workspaces that are gone: they do
    /// nothing any more.
    ///
    /// # Errors
    /// When they can't be removed.
    pub async fn forget_ended_rules(&mut self, time: Timestamp) -> Result<u64> {
        exec!(
            self,
            "DELETE FROM egress_rule WHERE (expires IS NOT NULL AND expires < $1)
                 OR (scope = 'workspace'
                     AND place IN (SELECT id FROM workspace WHERE state = 'deleted'))",
            time,
        )
    }
}

fn found(rows: u64, id: RuleId) -> Result<()> {
    if rows == 1 {
        Ok(())
    } else {
        Err(crate::Error::NotFound { kind: "rule", id: id.to_string() })
    }
}

impl Store {
    /// A rule.
    ///
    /// # Errors
    /// When there is none of this id.
    pub async fn rule(&self, id: RuleId) -> Result<RuleRow> {
        let row = read_one!(
            self,
            RuleRow,
            format!("SELECT {} FROM egress_rule WHERE id = $1", RuleRow::COLUMNS),
            id,
        )?;
        row.ok_or_else(|| crate::Error::NotFound { kind: "rule", id: id.to_string() })
    }

    /// The rules of a place, the oldest first; also those that have ended.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn rules(
        &self,
        organization: OrganizationId,
        place: RulePlace,
    ) -> Result<Vec<RuleRow>> {
        read_all!(
            self,
            RuleRow,
            format!(
                "SELECT {} FROM egress_rule
                 WHERE organization = $1 AND scope = $2 AND place = $3 ORDER BY number",
                RuleRow::COLUMNS
            ),
            organization,
            place.scope().as_str(),
            place.place(),
        )
    }

    /// What is set for a place beside its rules.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn rule_scope(
        &self,
        organization: OrganizationId,
        place: RulePlace,
    ) -> Result<ScopeRow> {
        let row = read_one!(
            self,
            ScopeRow,
            format!(
                "SELECT {} FROM egress_scope
                 WHERE organization = $1 AND scope = $2 AND place = $3",
                ScopeRow::COLUMNS
            ),
            organization,
            place.scope().as_str(),
            place.place(),
        )?;
        Ok(row.unwrap_or_default())
    }
}
