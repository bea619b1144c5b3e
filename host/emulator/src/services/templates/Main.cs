using QuantConnect.Algorithm;
using QuantConnect.Data;

namespace QuantConnect.Algorithm.CSharp
{
    public class NewProject : QCAlgorithm
    {
        public override void Initialize()
        {
            SetStartDate(2023, 1, 1);
            SetEndDate(2023, 12, 31);
            SetCash(100000);
            AddEquity("SPY", Resolution.Daily);
        }

        public override void OnData(Slice data)
        {
            if (!Portfolio.Invested)
            {
                SetHoldings("SPY", 1);
            }
        }
    }
}
