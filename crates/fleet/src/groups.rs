//! Groups: sandboxes that are made together and ended together. What a group is stands in its members.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use hothouse_domain::{
    ClaimSpec, EndCause, EndedMany, EndedMember, Failed, GroupId, GroupInfo, GroupSpec, OnFailure, SandboxId,
    SandboxSpec, TenantName,
};
use hothouse_sandbox::{Claimant, End, Ended, Member, NewSandbox, Node, Sandbox, SandboxError};

use crate::creation::Asked;
use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::requests::{Made, Replay};

/// Members that are made at once, and sandboxes that are ended at once.
const AT_ONCE: usize = 16;

type Outcomes = Vec<(u32, Result<Sandbox, FleetError>)>;

impl Fleet {
    /// Makes a group: all of it, or what its spec says when that fails.
    ///
    /// # Errors
    /// [`FleetError`]: it breaks a rule, its id is taken, or members could not be had; nothing of it is left then.
    pub async fn create_group(
        &self,
        mut spec: GroupSpec,
        asked: Asked,
    ) -> Result<(GroupInfo, Replay), FleetError> {
        spec.validate()?;
        let id = spec.id.take().unwrap_or_else(hothouse_sandbox::fresh_group);
        let (fleet, tenant) = (self.clone(), asked.tenant.clone());
        let request = asked.request.clone();
        match request {
            None => Ok((fleet.make_group(id, spec, asked).await?, Replay::No)),
            Some(request) => {
                let (told, made_now) = tokio::sync::oneshot::channel();
                let make = async move {
                    let info = fleet.make_group(id, spec, asked).await?;
                    let id = info.id.clone();
                    // Who asks again learns the members only; a caller that has left learns nothing.
                    drop(told.send(info));
                    Ok(Made::Group(id))
                };
                let (made, replay) =
                    self.requests().once(tenant.clone(), request, self.tasks(), make).await?;
                let Made::Group(id) = made else { return Err(FleetError::NoGroup(String::new())) };
                if let (Replay::No, Ok(info)) = (replay, made_now.await) {
                    return Ok((info, replay));
                }
                match self.group(tenant.as_ref(), &id) {
                    // None of its members could be had, and it was to be kept all the same.
                    Err(FleetError::NoGroup(_)) => {
                        let (members, ended, failures) = (Vec::new(), Vec::new(), Vec::new());
                        Ok((GroupInfo { id, members, ended, failures }, replay))
                    }
                    info => Ok((info?, replay)),
                }
            }
        }
    }

    async fn make_group(&self, id: GroupId, spec: GroupSpec, asked: Asked) -> Result<GroupInfo, FleetError> {
        if self.has_group(asked.tenant.as_ref(), &id) {
            return Err(FleetError::GroupExists(id));
        }
        let GroupSpec { id: _, count, sandbox, fork_of, pool, claim, on_failure } = spec;
        let whole = match on_failure {
            OnFailure::Undo => count,
            OnFailure::Keep => 0,
        };
        let member = Member { group: id.clone(), of: whole };
        let claimant = Claimant { group: Some(member), ..asked.claimant() };
        // Dropped unfinished, the group is undone: nobody would ever know of its members.
        let half = HalfMade { fleet: self.clone(), group: Some((asked.tenant.clone(), id.clone())) };
        let outcomes = match (pool, fork_of) {
            (Some(pool), _) => {
                let claims = (0..count).map(|_| (claim.clone().unwrap_or_default(), claimant.clone()));
                self.claim_members(&pool, claims, &asked).await?
            }
            (None, Some(origin)) => {
                let origin = self.origin(&origin, asked.tenant.as_ref())?;
                // Copied once, and held until every member holds it.
                let files = self.node().files_of(&origin).await?;
                let spec = self.node().fork_spec(&origin, &files, claim.unwrap_or_default())?;
                self.make_members(&id, count, &spec, &claimant, &asked).await?
            }
            (None, None) => {
                self.make_members(&id, count, &sandbox.unwrap_or_default(), &claimant, &asked).await?
            }
        };
        let (mut members, mut failures) = (Vec::new(), Vec::new());
        for (index, outcome) in outcomes {
            match outcome {
                Ok(sandbox) => members.push(sandbox),
                Err(error) => failures.push((index, error)),
            }
        }
        if on_failure == OnFailure::Undo && !failures.is_empty() {
            let (index, first) = failures.swap_remove(0);
            half.undo().await;
            return Err(FleetError::Member { index, count, source: Box::new(first) });
        }
        half.done();
        members.sort_by(|a, b| a.id().cmp(b.id()));
        let failures = failures
            .into_iter()
            .map(|(index, error)| Failed { index: Some(index), id: None, problem: error.problem() })
            .collect();
        let members = members.iter().map(Sandbox::info).collect();
        Ok(GroupInfo { id, members, ended: Vec::new(), failures })
    }

    /// The sandbox that is to be forked, if it is this tenant's.
    fn origin(&self, id: &SandboxId, tenant: Option<&TenantName>) -> Result<Sandbox, FleetError> {
        let sandbox = self.node().get(id)?;
        if tenant.is_some() && sandbox.terms().claimant.tenant.as_ref() != tenant {
            return Err(SandboxError::NotFound(id.to_string()).into());
        }
        Ok(sandbox)
    }

    async fn make_members(
        &self,
        id: &GroupId,
        count: u32,
        spec: &SandboxSpec,
        claimant: &Claimant,
        asked: &Asked,
    ) -> Result<Outcomes, FleetError> {
        let mut wanted = Vec::new();
        for index in 0..count {
            let name = format!("{id}-{index}");
            let name = name.parse().map_err(|e: hothouse_domain::InvalidId| {
                hothouse_domain::Invalid::new(
                    "id",
                    format!("is too long to name members after it: {name} {e}"),
                )
            })?;
            let spec = SandboxSpec { id: Some(name), ..spec.clone() };
            wanted.push(NewSandbox { spec, pool: None, claimant: claimant.clone() });
        }
        if claimant.group.as_ref().is_some_and(|member| member.of == 0) {
            let made = futures::stream::iter((0..).zip(wanted)).map(|(index, new)| async move {
                let reserve = || self.node().reserve(vec![new.clone()]);
                let made =
                    match self.admission().admit(asked.patience, reserve).await.map(|mut one| one.pop()) {
                        Ok(Some(reserved)) => reserved.make().await.map_err(FleetError::from),
                        Ok(None) => Err(SandboxError::ShuttingDown.into()),
                        Err(error) => Err(error),
                    };
                (index, made)
            });
            return Ok(made.buffer_unordered(AT_ONCE).collect().await);
        }
        // All of them or none: two groups that each had half of the room would wait for each other.
        let reserved = self.admission().admit(asked.patience, || self.node().reserve(wanted.clone())).await?;
        let made = futures::stream::iter((0..).zip(reserved))
            .map(|(index, reserved)| async move { (index, reserved.make().await.map_err(FleetError::from)) })
            .buffer_unordered(AT_ONCE);
        Ok(made.collect().await)
    }

    async fn claim_members(
        &self,
        pool: &hothouse_domain::PoolName,
        claims: impl Iterator<Item = (ClaimSpec, Claimant)>,
        asked: &Asked,
    ) -> Result<Outcomes, FleetError> {
        let pool = self.find(pool)?;
        let claimed = futures::stream::iter((0..).zip(claims))
            .map(|(index, (claim, claimant))| {
                let pool = pool.clone();
                async move { (index, pool.claim(claim, claimant, asked.patience).await) }
            })
            .buffer_unordered(AT_ONCE);
        Ok(claimed.collect().await)
    }

    fn has_group(&self, tenant: Option<&TenantName>, id: &GroupId) -> bool {
        self.node().count(|terms| is_of(&terms.claimant, tenant, id)) > 0
    }

    /// A group as it is now.
    ///
    /// # Errors
    /// [`FleetError::NoGroup`]: there is none, or nothing is remembered of it.
    pub fn group(&self, tenant: Option<&TenantName>, id: &GroupId) -> Result<GroupInfo, FleetError> {
        let members = members(self.node(), tenant, id);
        let mut ended: Vec<EndedMember> = self
            .node()
            .endings()
            .into_iter()
            .filter(|ended| is_member(&ended.claimant, tenant, id))
            .filter_map(|Ended { id, ending, .. }| Some(EndedMember { id, ending: ending? }))
            .collect();
        if members.is_empty() && ended.is_empty() {
            return Err(FleetError::NoGroup(id.to_string()));
        }
        ended.sort_by(|a, b| a.id.cmp(&b.id));
        let members = members.iter().map(Sandbox::info).collect();
        Ok(GroupInfo { id: id.clone(), members, ended, failures: Vec::new() })
    }

    /// The groups that have members, by id, with how many; of all tenants where none is named.
    #[must_use]
    pub fn groups(&self, tenant: Option<&TenantName>) -> BTreeMap<GroupId, usize> {
        let mut groups = BTreeMap::new();
        for sandbox in self.node().all() {
            let terms = sandbox.terms();
            if let Some(member) = &terms.claimant.group
                && (tenant.is_none() || terms.claimant.tenant.as_ref() == tenant)
            {
                *groups.entry(member.group.clone()).or_default() += 1;
            }
        }
        groups
    }

    /// Ends all members of a group.
    ///
    /// # Errors
    /// [`FleetError::NoGroup`]: there is none, or all of its members have ended.
    pub async fn end_group(
        &self,
        tenant: Option<&TenantName>,
        id: &GroupId,
        by: &str,
    ) -> Result<EndedMany, FleetError> {
        let members = members(self.node(), tenant, id);
        if members.is_empty() {
            return Err(FleetError::NoGroup(id.to_string()));
        }
        Ok(self.end_many(members, &End::new(EndCause::Group, by, format!("group {id} was deleted"))).await)
    }

    /// Ends many sandboxes; those that have ended meanwhile count too.
    pub async fn end_many(&self, sandboxes: Vec<Sandbox>, end: &End) -> EndedMany {
        let outcomes = futures::stream::iter(sandboxes).map(|sandbox| async move {
            (sandbox.id().clone(), self.node().end(sandbox.id(), end.clone()).await)
        });
        let mut many = EndedMany::default();
        let outcomes: Vec<_> = outcomes.buffer_unordered(AT_ONCE).collect().await;
        for (id, outcome) in outcomes {
            match outcome {
                Ok(()) | Err(SandboxError::Ended { .. } | SandboxError::NotFound(_)) => many.ended += 1,
                Err(error) => {
                    many.failures.push(Failed { index: None, id: Some(id), problem: error.problem() });
                }
            }
        }
        many
    }

    /// Ends the groups of which an earlier server had made a part only.
    pub(crate) async fn sweep_half_made_groups(&self) {
        let mut groups: BTreeMap<(Option<TenantName>, GroupId), (u32, BTreeSet<_>)> = BTreeMap::new();
        let alive = self.node().all().into_iter().map(|s| (s.id().clone(), s.terms().claimant.clone()));
        let ended = self.node().endings().into_iter().map(|ended| (ended.id, ended.claimant));
        for (id, claimant) in alive.chain(ended) {
            if let Some(Member { group, of }) = claimant.group {
                let entry = groups.entry((claimant.tenant, group)).or_insert((of, BTreeSet::new()));
                entry.1.insert(id);
            }
        }
        for ((tenant, group), (whole, ids)) in groups {
            let members = of(self.node(), tenant.as_ref(), &group);
            if ids.len() < whole as usize && !members.is_empty() {
                tracing::warn!(%group, whole, there = members.len(), "a group was half made when the server ended");
                let end = End::new(EndCause::Group, "node", "its group was half made when the server ended");
                self.end_many(members, &end).await;
            }
        }
    }
}

fn members(node: &Node, tenant: Option<&TenantName>, id: &GroupId) -> Vec<Sandbox> {
    node.all().into_iter().filter(|sandbox| is_member(&sandbox.terms().claimant, tenant, id)).collect()
}

/// The members of exactly this tenant's group.
fn of(node: &Node, tenant: Option<&TenantName>, id: &GroupId) -> Vec<Sandbox> {
    node.all().into_iter().filter(|sandbox| is_of(&sandbox.terms().claimant, tenant, id)).collect()
}

fn is_of(claimant: &Claimant, tenant: Option<&TenantName>, id: &GroupId) -> bool {
    claimant.tenant.as_ref() == tenant && claimant.group.as_ref().is_some_and(|member| member.group == *id)
}

/// Of a tenant's own groups; of all, where nobody tells tenants apart.
fn is_member(claimant: &Claimant, tenant: Option<&TenantName>, id: &GroupId) -> bool {
    claimant.group.as_ref().is_some_and(|member| member.group == *id)
        && (tenant.is_none() || claimant.tenant.as_ref() == tenant)
}

/// Undoes a group whose making is given up.
struct HalfMade {
    fleet: Fleet,
    group: Option<(Option<TenantName>, GroupId)>,
}

impl HalfMade {
    fn done(mut self) {
        self.group = None;
    }

    async fn undo(mut self) {
        if let Some((tenant, id)) = self.group.take() {
            undo(self.fleet.clone(), tenant, id).await;
        }
    }
}

impl Drop for HalfMade {
    fn drop(&mut self) {
        if let Some((tenant, id)) = self.group.take() {
            let fleet = self.fleet.clone();
            self.fleet.tasks().spawn(undo(fleet, tenant, id));
        }
    }
}

async fn undo(fleet: Fleet, tenant: Option<TenantName>, id: GroupId) {
    let members = of(fleet.node(), tenant.as_ref(), &id);
    let end = End::new(EndCause::Group, format!("group {id}"), "not every member of its group could be had");
    for Failed { id, problem, .. } in fleet.end_many(members, &end).await.failures {
        tracing::error!(sandbox = ?id, detail = problem.detail, "of a group that was undone");
    }
}
