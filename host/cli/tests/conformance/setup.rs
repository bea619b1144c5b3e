//! Set-up that many cases share: a project, a compile, a backtest, an optimisation, a deployment.

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::body::{Body, Check, ensure};

/// An algorithm that trades within weeks at any prices.
pub const SOURCE: &str = r#"from AlgorithmImports import *


class Crossing(QCAlgorithm):

    def initialize(self):
        self.set_start_date(2023, 1, 1)
        self.set_end_date(2023, 12, 31)
        self.set_cash(100000)
        fast = int(self.get_parameter("fast", 5))
        slow = int(self.get_parameter("slow", 20))
        self.symbol = self.add_equity("SPY", Resolution.DAILY).symbol
        self.fast = self.sma(self.symbol, fast)
        self.slow = self.sma(self.symbol, slow)
        self.set_warm_up(slow)

    def on_data(self, data):
        if self.is_warming_up:
            return
        if self.fast.current.value > self.slow.current.value:
            self.emit_insights(Insight.price(self.symbol, timedelta(days=5), InsightDirection.UP))
            self.set_holdings(self.symbol, 1)
        else:
            self.liquidate(self.symbol)
"#;

/// An id that no project has.
pub const UNKNOWN: u32 = 999;

/// The start and end of the charts that are read: everything.
pub const EVER: (u32, u32) = (0, 4_000_000_000);

impl Bench {
    /// Creates a project of this name, in Python.
    pub async fn project_called(&self, name: &str) -> Check<Value> {
        let arguments = json!({ "name": name, "language": "Py" });
        let body = self.call("create_project", arguments).await?;
        Ok(body.at("/projects/0")?.clone())
    }

    /// Creates a project; returns its id.
    pub async fn project(&self) -> Check<Value> {
        let project = self.project_called("Suite/One").await?;
        Ok(project.at("/projectId")?.clone())
    }

    /// Creates a project with the algorithm; returns its id.
    pub async fn algorithm(&self) -> Check<Value> {
        let project = self.project().await?;
        let arguments = json!({ "projectId": project, "name": "main.py", "content": SOURCE });
        self.call("update_file_contents", arguments).await?;
        Ok(project)
    }

    /// Compiles a project; returns the finished job.
    pub async fn compile_of(&self, project: &Value) -> Check<Value> {
        let body = self
            .call("create_compile", json!({ "projectId": project }))
            .await?;
        let arguments = json!({ "projectId": project, "compileId": body.text("/compileId")? });
        self.until("read_compile", arguments, |body| {
            Ok(body.text("/state")? != "InQueue")
        })
        .await
    }

    /// Creates a project and compiles it; returns both ids.
    pub async fn compiled(&self) -> Check<(Value, String)> {
        let project = self.algorithm().await?;
        let compile = self.compile_of(&project).await?;
        compile.equals("/state", "BuildSuccess")?;
        Ok((project, compile.text("/compileId")?))
    }

    /// Starts a backtest; returns its id.
    pub async fn backtest_of(&self, project: &Value, compile: &str, fast: u32) -> Check<String> {
        let arguments = json!({
            "projectId": project, "compileId": compile, "backtestName": "Crossing",
            "parameters": { "fast": fast.to_string() },
        });
        let body = self.call("create_backtest", arguments).await?;
        body.text("/backtest/backtestId")
    }

    /// Waits for a backtest and returns it.
    pub async fn finished(&self, project: &Value, backtest: &str) -> Check<Value> {
        let arguments = json!({ "projectId": project, "backtestId": backtest });
        self.until("read_backtest", arguments, |body| {
            Ok(body.at("/backtest/completed")? == true)
        })
        .await
    }

    /// Creates a project and runs a backtest; returns both ids.
    pub async fn backtest(&self) -> Check<(Value, String)> {
        let (project, compile) = self.compiled().await?;
        let backtest = self.backtest_of(&project, &compile, 5).await?;
        let body = self.finished(&project, &backtest).await?;
        body.equals("/backtest/status", "Completed.")?;
        Ok((project, backtest))
    }

    /// The arguments of an optimisation over three values.
    pub fn grid(&self, project: &Value, compile: &str) -> Value {
        json!({
            "projectId": project,
            "compileId": compile,
            "name": "Grid",
            "target": "TotalPerformance.PortfolioStatistics.SharpeRatio",
            "targetTo": "max",
            "strategy": "QuantConnect.Optimizer.Strategies.GridSearchOptimizationStrategy",
            "parameters": [{ "name": "fast", "min": 3, "max": 9, "step": 3 }],
            "constraints": [],
            "estimatedCost": 10,
            "nodeType": "O2-8",
            "parallelNodes": 2,
        })
    }

    /// Starts an optimisation; returns the ids of the project and of the optimisation.
    pub async fn optimization(&self) -> Check<(Value, String)> {
        let (project, compile) = self.compiled().await?;
        let body = self
            .call("create_optimization", self.grid(&project, &compile))
            .await?;
        Ok((project, body.text("/optimizations/0/optimizationId")?))
    }

    /// The arguments of a deployment on the first live node, with a paper brokerage.
    pub async fn deployment_of(&self, project: &Value, compile: &str) -> Check<Value> {
        let nodes = self
            .call("read_project_nodes", json!({ "projectId": project }))
            .await?;
        Ok(json!({
            "versionId": "-1",
            "projectId": project,
            "compileId": compile,
            "nodeId": nodes.text("/nodes/live/0/id")?,
            "brokerage": { "id": "QuantConnectBrokerage" },
            "dataProviders": { "QuantConnectBrokerage": { "id": "QuantConnectBrokerage" } },
        }))
    }

    /// Deploys a project and waits until it trades; returns its id.
    pub async fn deployed(&self) -> Check<(Value, String)> {
        let (project, compile) = self.compiled().await?;
        let arguments = self.deployment_of(&project, &compile).await?;
        let body = self.call("create_live_algorithm", arguments).await?;
        let deployment = body.text("/deployId")?;
        self.until(
            "read_live_algorithm",
            json!({ "projectId": project }),
            |body| {
                let status = body.text("/status")?;
                ensure!(
                    ["LoggingIn", "Initializing", "Running"].contains(&status.as_str()),
                    "the deployment is {status}: {}",
                    body["message"]
                );
                Ok(status == "Running")
            },
        )
        .await?;
        Ok((project, deployment))
    }

    /// The live status of a project.
    pub async fn live_status(&self, project: &Value) -> Check<String> {
        let body = self
            .call("read_live_algorithm", json!({ "projectId": project }))
            .await?;
        body.text("/status")
    }

    /// The content of a file.
    pub async fn content(&self, project: &Value, name: &str) -> Check<String> {
        let arguments = json!({ "projectId": project, "name": name });
        let body = self.call("read_file", arguments).await?;
        body.find("/files", "name", name)?.text("/content")
    }
}
