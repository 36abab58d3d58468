# The dashboard, from the charts of monitoring/dashboard.yaml.

locals {
  charts = [
    for chart in yamldecode(file("${path.module}/monitoring/dashboard.yaml")) : {
      title = chart.title
      unit  = chart.unit
      series = merge([
        for legend, query in chart.series : legend == "CODE" ? {
          for code in local.metrics.rejections.codes : code => replace(query, "CODE", code)
        } : { (legend) = query }
      ]...)
    }
  ]
}

resource "google_monitoring_dashboard" "sluice" {
  dashboard_json = jsonencode({
    displayName = "Sluice ${var.environment}"
    mosaicLayout = {
      columns = 48
      tiles = [
        for index, chart in local.charts : merge(
          # Three charts a row. The service leaves a zero out when it is read: one
          # written here would be a change in every plan.
          index % 3 == 0 ? {} : { xPos = index % 3 * 16 },
          index < 3 ? {} : { yPos = floor(index / 3) * 14 },
          {
            width  = 16
            height = 14
            widget = {
              title = chart.title
              xyChart = {
                yAxis = { label = chart.unit, scale = "LINEAR" }
                dataSets = [
                  for legend, query in chart.series : merge(
                    {
                      plotType        = "LINE"
                      targetAxis      = "Y1"
                      timeSeriesQuery = { prometheusQuery = query }
                    },
                    legend == "" ? {} : { legendTemplate = legend },
                  )
                ]
              }
            }
          },
        )
      ]
    }
  })
}
