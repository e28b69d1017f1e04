//! The bodies of the query protocols: forms with numbered lists.

use std::collections::BTreeMap;

use super::super::http;

/// The parameters of one call.
#[derive(Clone, Debug, Default)]
pub struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads `a=1&b=2`.
    pub(super) fn parse(body: &str) -> Self {
        let pairs = body.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    let plain = |text: &str| http::decode(&text.replace('+', "%20"));
                    (plain(name), plain(value))
                })
                .collect(),
        )
    }

    /// Writes it as a body.
    pub(super) fn encode(pairs: &[(String, String)]) -> String {
        let pairs = pairs.iter().map(|(name, value)| {
            format!(
                "{}={}",
                http::encode(name, false),
                http::encode(value, false)
            )
        });
        pairs.collect::<Vec<_>>().join("&")
    }

    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether a parameter is `true`.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The numbers in use below `name.`, in order.
    fn numbers(&self, name: &str) -> Vec<usize> {
        let prefix = format!("{name}.");
        let mut numbers: Vec<usize> = self
            .0
            .keys()
            .filter_map(|key| {
                key.strip_prefix(&prefix)?
                    .split('.')
                    .next()
                    .and_then(|number| number.parse().ok())
            })
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// The values of `name.1`, `name.2`, ... in order.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.numbers(name)
            .iter()
            .filter_map(|number| self.get(&format!("{name}.{number}")).map(str::to_string))
            .collect()
    }

    /// The names in use as `name.1`, `name.2`, ... for lists of structures.
    pub(super) fn items(&self, name: &str) -> Vec<String> {
        self.numbers(name)
            .iter()
            .map(|number| format!("{name}.{number}"))
            .collect()
    }

    /// EC2's `Filter`: each a name and the values of which one must match.
    pub fn filters(&self) -> Vec<(String, Vec<String>)> {
        let filters = self.items("Filter").into_iter().map(|item| {
            let name = self.get(&format!("{item}.Name")).unwrap_or_default();
            (name.to_string(), self.list(&format!("{item}.Value")))
        });
        filters.collect()
    }

    /// The tags that a new resource of this type gets.
    pub fn tags(&self, resource: &str) -> BTreeMap<String, String> {
        let specifications = self.items("TagSpecification").into_iter();
        specifications
            .filter(|item| self.get(&format!("{item}.ResourceType")) == Some(resource))
            .flat_map(|item| self.pairs(&format!("{item}.Tag")))
            .collect()
    }

    /// `name.N.Key` with `name.N.Value`.
    pub(super) fn pairs(&self, name: &str) -> Vec<(String, String)> {
        let text = |name: String| self.get(&name).unwrap_or_default().to_string();
        self.items(name)
            .iter()
            .map(|item| (text(format!("{item}.Key")), text(format!("{item}.Value"))))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_order_and_tags_their_type() {
        let form = Form::parse(
            "InstanceId.10=b&InstanceId.2=a+c&TagSpecification.1.ResourceType=snapshot\
             &TagSpecification.1.Tag.1.Key=case&TagSpecification.1.Tag.1.Value=x%2F1\
             &Filter.1.Name=tag%3Acase&Filter.1.Value.1=y",
        );
        assert_eq!(form.list("InstanceId"), ["a c", "b"]);
        assert_eq!(form.tags("snapshot")["case"], "x/1");
        assert!(form.tags("volume").is_empty());
        assert_eq!(form.filters(), [("tag:case".into(), vec!["y".into()])]);
    }
}
